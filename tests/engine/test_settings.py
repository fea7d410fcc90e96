"""The table of precedence: which of two layers decides a key, for each way of using the settings."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from configs import SCHEMA, get_cfg, to_yaml, with_values
from datasets.preprocessing import Preprocessing
from engine.checkpoint import SECTION, Checkpoint, RunCard, read_checkpoint, section
from engine.methods import BASELINE, Method
from engine.settings import Settings
from modelling.weights.weights import Weights
from utils.errors import ReidError

SIZE = "INPUT.SIZE_TEST"
VALUES: dict[str, dict[str, Any]] = {
    SIZE: {"method": [40, 16], "weights": [48, 16], "file": [56, 16], "command line": [64, 16]},
    "SOLVER.LOG_PERIOD": {"method": 2, "weights": 3, "file": 4, "command line": 5},
    "SOLVER.BASE_LR": {"method": 0.2, "weights": 0.3, "file": 0.4, "command line": 0.5},
    "DATALOADER.NUM_WORKERS": {"weights": 3, "file": 4, "command line": 5},
}
"""Key -> layer -> a value that shows where it comes from."""


def checkpoint(values: Mapping[str, Any]) -> Checkpoint:
    """One of ours, written with these settings."""
    config = to_yaml(with_values(get_cfg(), {"SOLVER.TERMS": ["identity"], **values}))
    card = RunCard(config, "people", 5, 1, "baseline")
    return read_checkpoint(Path("ours.pth"), {SECTION: section(card, 0, (1, 0), 1), "state_dict": {}})


def foreign(values: Mapping[str, Any]) -> Weights:
    """A trained model of another project; the size of its images is all that it tells."""
    images = Preprocessing(tuple(values[SIZE])) if SIZE in values else None
    return Weights(Path("theirs.pth"), "fast-reid model", {}, {"name": "resnet50"}, images, num_ids=5)


def value_of(use: str, key: str, layers: tuple[str, ...]) -> object:
    """The value of a key that some layers set, in one way of use."""
    by_layer = {layer: {key: VALUES[key][layer]} for layer in layers if layer != "defaults"}
    settings = Settings(by_layer.get("file", {}), by_layer.get("command line", {}))
    way, _, project = use.partition(" of ")
    weights = (foreign if project == "theirs" else checkpoint)(by_layer.get("weights", {}))
    if way == "use":
        cfg = settings.for_use(weights)
    else:
        method = Method("mine", defaults=by_layer.get("method", {}), fine_tunes=way == "fine-tuning")
        cfg = settings.for_training(method, None if project == "nothing" else weights, resume=way == "resumption")
    section, _, name = key.partition(".")
    return cfg[section][name]


# Use -> key -> the layers that set it, from the lowest to the highest.
ORDERS: dict[str, dict[str, tuple[str, ...]]] = {
    "training of nothing": {SIZE: ("defaults", "method", "file", "command line")},
    "training of ours": {SIZE: ("defaults", "method", "weights", "file", "command line")},
    "training of theirs": {SIZE: ("defaults", "method", "weights", "file", "command line")},
    "fine-tuning of ours": {
        SIZE: ("defaults", "method", "file", "weights", "command line"),
        "SOLVER.BASE_LR": ("defaults", "method", "file", "command line"),
    },
    "fine-tuning of theirs": {SIZE: ("defaults", "method", "weights", "file", "command line")},
    "resumption of ours": {
        SIZE: ("defaults", "method", "file", "weights"),
        "SOLVER.BASE_LR": ("defaults", "method", "file", "weights"),
        "SOLVER.LOG_PERIOD": ("defaults", "method", "weights", "file", "command line"),
    },
    "use of ours": {
        SIZE: ("defaults", "file", "weights", "command line"),
        "DATALOADER.NUM_WORKERS": ("defaults", "weights", "file", "command line"),
        "SOLVER.BASE_LR": ("defaults", "file", "command line"),
    },
    "use of theirs": {SIZE: ("defaults", "weights", "file", "command line")},
}


def pairs(use: str, order: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """A checkpoint of ours sets every key, so nothing below it is to be seen without it."""
    lowest = order.index("weights") if use.endswith("ours") and "weights" in order else 0
    return ((lower, higher) for lower, higher in combinations(order, 2) if order.index(higher) >= lowest)


@pytest.mark.parametrize(
    ("use", "key", "lower", "higher"),
    [
        pytest.param(use, key, *pair, id=f"{use}-{key}-{pair[1]} over {pair[0]}")
        for use, orders in ORDERS.items()
        for key, order in orders.items()
        for pair in pairs(use, order)
    ],
)
def test_of_two_layers_the_higher_one_decides(use: str, key: str, lower: str, higher: str) -> None:
    assert value_of(use, key, (lower, higher)) == VALUES[key][higher]


@pytest.mark.parametrize(("use", "key"), [(use, key) for use, orders in ORDERS.items() for key in orders])
def test_of_all_layers_the_highest_one_decides(use: str, key: str) -> None:
    order = ORDERS[use][key]
    assert value_of(use, key, order) == VALUES[key][order[-1]]
    assert value_of(use, key, order[:1]) == SCHEMA[key].default


def test_without_weights_or_method_file_and_command_line_decide() -> None:
    settings = Settings({"SOLVER.MAX_EPOCHS": 7, "SOLVER.EVAL_PERIOD": 3}, {"SOLVER.MAX_EPOCHS": 9})
    assert settings.explicit == {"SOLVER.MAX_EPOCHS": 9, "SOLVER.EVAL_PERIOD": 3}
    assert (settings.cfg.SOLVER.MAX_EPOCHS, settings.cfg.SOLVER.EVAL_PERIOD) == (9, 3)
    assert settings.cfg.MODEL.NAME == SCHEMA["MODEL.NAME"].default
    assert settings.cfg.is_frozen()
    assert settings.is_explicit("SOLVER.MAX_EPOCHS")
    assert not settings.is_explicit("SOLVER.BASE_LR")
    with pytest.raises(KeyError, match=r"SOLVER\.MAX_EPOCH'"):
        settings.is_explicit("SOLVER.MAX_EPOCH")


def test_training_and_test_of_a_run_of_ours_may_have_two_sizes() -> None:
    weights = checkpoint({"INPUT.SIZE_TRAIN": [64, 32], SIZE: [96, 48], "INPUT.SCALE": 4})
    fine_tuning = Settings({}, {}).for_training(Method("mine", fine_tunes=True), weights, resume=False)
    for cfg in (fine_tuning, Settings({}, {}).for_use(weights)):
        assert (cfg.INPUT.SIZE_TRAIN, cfg.INPUT.SIZE_TEST, cfg.INPUT.SCALE) == ([64, 32], [96, 48], 1)


@pytest.mark.parametrize("layer", ["file", "overrides"])
@pytest.mark.parametrize("use", ["training", "fine-tuning", "resumption", "use"])
def test_no_layer_may_contradict_the_architecture(use: str, layer: str) -> None:
    weights = checkpoint({"MODEL.POOLING": "max", "MODEL.NAME": "resnet18"})
    settings = Settings(**{"file": {}, "overrides": {}, layer: {"MODEL.POOLING": "gem", "MODEL.NAME": "resnet18"}})
    method = Method("mine", fine_tunes=use == "fine-tuning")
    with pytest.raises(
        ReidError, match=r"contradicts ours\.pth: MODEL\.POOLING is max in the file and gem here; leave"
    ):
        _ = (
            settings.for_use(weights)
            if use == "use"
            else settings.for_training(method, weights, resume=use == "resumption")
        )


def test_the_architecture_is_that_of_the_weights() -> None:
    weights = checkpoint({"MODEL.POOLING": "max", "MODEL.NAME": "resnet18"})
    for cfg in (Settings({}, {}).for_use(weights), Settings({}, {}).for_training(BASELINE, weights, resume=False)):
        assert (cfg.MODEL.NAME, cfg.MODEL.POOLING) == ("resnet18", "max")


def test_a_resumed_run_changes_what_makes_it_no_other_run() -> None:
    weights = checkpoint({"SOLVER.MAX_EPOCHS": 5})
    more = {"SOLVER.MAX_EPOCHS": 9, "TEST.RERANK": True, "SOLVER.BASE_LR": SCHEMA["SOLVER.BASE_LR"].default}
    assert Settings({}, more).for_training(BASELINE, weights, resume=True).SOLVER.MAX_EPOCHS == 9
    with pytest.raises(ReidError, match=r"got SOLVER\.BASE_LR \(0\.00035 -> 0\.1\), SOLVER\.GAMMA .*start a new run"):
        Settings({}, {"SOLVER.BASE_LR": 0.1, "SOLVER.GAMMA": 0.5}).for_training(BASELINE, weights, resume=True)


def test_a_use_takes_over_no_resolution_and_no_test_set_of_another_name() -> None:
    weights = checkpoint({"INPUT.SCALE": 4, "DATASETS.NAMES": "a", "DATASETS.TEST_NAMES": "b"})
    cfg = Settings({}, {}).for_use(weights)
    assert (cfg.INPUT.SCALE, cfg.DATASETS.NAMES, cfg.DATASETS.TEST_NAMES) == (1, "a", "b")
    cfg = Settings({"DATASETS.NAMES": "c"}, {}).for_use(weights)
    assert (cfg.DATASETS.NAMES, cfg.DATASETS.TEST_NAMES) == ("c", "")


def test_a_value_of_the_file_that_does_not_count_is_named(caplog: pytest.LogCaptureFixture) -> None:
    file = {SIZE: [56, 16], "SOLVER.BASE_LR": 0.4, "SOLVER.GAMMA": SCHEMA["SOLVER.GAMMA"].default}
    Settings(file, {}).for_training(BASELINE, checkpoint({}), resume=True)
    size, rate = caplog.messages
    assert "INPUT.SIZE_TEST [56, 16] is left out, the checkpoint's [256, 128] counts" in size
    assert "SOLVER.BASE_LR 0.4 is left out, the checkpoint's 0.00035 counts" in rate
    assert "KEY VALUE" not in size + rate  # a resumed run keeps them
    caplog.clear()
    Settings(file, {}).for_use(checkpoint({}))
    assert "INPUT.SIZE_TEST [56, 16] is left out, the checkpoint's [256, 128] counts (KEY VALUE" in caplog.text
    caplog.clear()
    Settings(file, {SIZE: [64, 16]}).for_use(checkpoint({}))
    assert not caplog.messages
