"""What takes the place of TRAINER's auto, and what a run does with it."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
import torch

from configs import get_cfg, with_values
from engine import tuning
from engine.builders.model import build_network
from engine.builders.trainer import build_trainer
from engine.checkpoint import Checkpoint
from engine.tuning import tune
from modelling.deployment import LAYOUTS
from modelling.network import ReidNetwork
from tests.engine.support import ONE_EPOCH, checkpoint_at, resume
from tests.support import fit
from utils.fastest import cache_file

SMALL = {
    "MODEL.NAME": "resnet18",
    "MODEL.PRETRAINED": False,
    "INPUT.SIZE_TRAIN": [32, 16],
    "TRAINER.ACCELERATOR": "cpu",
}


@pytest.fixture(scope="module")
def network() -> ReidNetwork:
    return build_network(with_values(get_cfg(), SMALL))


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The candidates of each choice; the last one is the fastest, on a CPU that multiplies bf16."""
    choices: list[tuple[str, ...]] = []

    def last(_: str, candidates: Mapping[str, Any], default: str) -> str:
        assert default in candidates
        choices.append((*candidates,))
        return choices[-1][-1]

    monkeypatch.setattr(tuning, "fastest", last)
    monkeypatch.setattr(tuning, "multiplies_bf16", lambda _: True)
    return choices


def choices_of(network: ReidNetwork, before: Mapping[str, Any] | None = None, **values: object) -> tuple[str, str]:
    values = {
        f"TRAINER.{name}" if name in ("LAYOUT", "PRECISION", "DEVICES") else name: v for name, v in values.items()
    }
    cfg = tune(with_values(get_cfg(), SMALL | values), network, before or {})
    return cfg.TRAINER.PRECISION, cfg.TRAINER.LAYOUT


def test_auto_is_what_was_fastest(network: ReidNetwork, timed: list[tuple[str, ...]]) -> None:
    assert choices_of(network) == ("bf16-mixed", "channels_last")
    assert choices_of(network, LAYOUT="auto") == ("bf16-mixed", "contiguous")
    bf16, layouts = ("32-true", "bf16-mixed"), ("channels_last", "contiguous")
    assert timed == [bf16, layouts, bf16]


def test_a_choice_by_hand_is_not_timed(network: ReidNetwork, timed: list[tuple[str, ...]]) -> None:
    assert choices_of(network, LAYOUT="contiguous", PRECISION="bf16-mixed") == ("bf16-mixed", "contiguous")
    assert timed == []


def test_a_run_that_goes_on_keeps_its_choices(network: ReidNetwork, timed: list[tuple[str, ...]]) -> None:
    before = {"TRAINER.PRECISION": "32-true", "TRAINER.LAYOUT": "contiguous"}
    assert choices_of(network, before, LAYOUT="auto") == ("32-true", "contiguous")
    assert timed == []


@pytest.mark.parametrize("values", [{"REPRODUCIBLE": True}, {"DEVICES": 2}])
def test_nothing_is_timed_where_all_must_choose_alike(
    values: dict[str, Any], network: ReidNetwork, timed: list[tuple[str, ...]]
) -> None:
    assert choices_of(network, LAYOUT="auto", **values) == ("32-true", "channels_last")
    assert timed == []


def test_16_bits_only_where_the_map_stays(timed: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    values = SMALL | {"MODEL.NAME": "osnet_x0_25"}
    osnet = build_network(with_values(get_cfg(), values))
    assert tune(with_values(get_cfg(), values), osnet, {}).TRAINER.PRECISION == "32-true"
    monkeypatch.setattr(tuning, "multiplies_bf16", lambda _: False)
    assert timed == [("32-true",)]
    resnet = build_network(with_values(get_cfg(), SMALL))
    assert choices_of(resnet) == ("32-true", "channels_last")


@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
def test_measuring_leaves_no_trace(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "multiplies_bf16", lambda _: True)
    network = build_network(with_values(get_cfg(), SMALL))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    choices_of(network, LAYOUT=layout)
    assert cache_file().exists()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    weight = network.backbone.get_submodule("base.layer1.0.conv1").weight
    assert weight.is_contiguous(memory_format=LAYOUTS[layout])


def test_a_checkpoint_holds_the_choice(tiny_arguments: list[str], timed: list[tuple[str, ...]]) -> None:
    options = (*ONE_EPOCH, "MODEL.NAME", "resnet18", "TRAINER.PRECISION", "auto", "TRAINER.LAYOUT", "auto")
    folder = fit(tiny_arguments, *options).folder
    config = checkpoint_at(folder / "0_last.pth").config
    assert (config["TRAINER.PRECISION"], config["TRAINER.LAYOUT"]) == ("bf16-mixed", "contiguous")
    timed.clear()
    place = str(folder.parents[3])
    rest = fit(resume(folder / "0_last.pth"), "SOLVER.MAX_EPOCHS", "2", "LOGS_DIR", place, "RUNS_DIR", place).folder
    assert checkpoint_at(rest / "1_last.pth").config["TRAINER.PRECISION"] == "bf16-mixed"
    assert timed == []


def test_a_compiled_network_keeps_its_names_and_values(
    tiny_arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def states() -> Checkpoint:
        return checkpoint_at(fit(tiny_arguments, *ONE_EPOCH, "TRAINER.COMPILE", compiled).folder / "0_last.pth")

    compiled = "False"
    plain = states()
    calls: list[Any] = []

    def compile_eagerly(call: Any) -> object:  # noqa: ANN401
        calls.append(call)
        return original(call)

    original = partial(torch.compile, backend="eager")  # no C++ compiler
    monkeypatch.setattr(torch, "compile", compile_eagerly)
    compiled = "True"
    network = states()
    assert len(calls) == 1
    assert network.state.keys() == plain.state.keys()
    torch.testing.assert_close(network.state, plain.state, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("allowed", [True, False])
def test_tf32_is_a_choice(allowed: bool, network: ReidNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", not allowed)
    tune(with_values(get_cfg(), SMALL | {"TRAINER.PRECISION": "32-true", "TRAINER.TF32": allowed}), network, {})
    assert torch.backends.cudnn.allow_tf32 is allowed
    assert torch.get_float32_matmul_precision() == "highest"  # the products of a CPU are never narrowed


@pytest.mark.parametrize(
    ("key", "value", "tries"),
    [("REPRODUCIBLE", False, True), ("REPRODUCIBLE", True, False), ("DATALOADER.USE_RESAMPLING", False, False)],
)
def test_cudnn_tries_its_algorithms_where_all_batches_are_of_one_size(
    key: str, value: bool, tries: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", not tries)
    try:
        build_trainer(with_values(get_cfg(), SMALL | {key: value}))
        assert torch.backends.cudnn.benchmark is tries
    finally:
        torch.use_deterministic_algorithms(False)
