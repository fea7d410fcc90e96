"""What a checkpoint says about its run, old ones included, and what is none."""

from pathlib import Path
from typing import Any

import pytest
import torch

from configs import get_cfg, to_yaml, with_values
from engine.checkpoint import SECTION, Checkpoint, RunCard, epoch_of, read_checkpoint, section
from utils.errors import ReidError

PATH = Path("logs/a.pth")
WEIGHTS = {
    "identity": "SOLVER.QUERY_XENT_WEIGHT",
    "triplet": "SOLVER.QUERY_CONTRASTIVE_WEIGHT",
    "center": "SOLVER.CENTER_LOSS_WEIGHT",
    "centroid_triplet": "SOLVER.CENTROID_CONTRASTIVE_WEIGHT",
}


def content(values: dict[str, Any] | None = None, **card: Any) -> dict[str, Any]:  # noqa: ANN401
    """Of a file, with these settings and this card."""
    config = to_yaml(with_values(get_cfg(), values or {}))
    run = {"dataset": "people", "num_ids": 5, "scale": 1, "method": "baseline", **card}
    ours = section(RunCard(config, **run), 7, (7, 3), 2)
    state = {"network.head.bn.weight": torch.ones(2), "objective.terms.center.centers": torch.ones(5, 2)}
    return {SECTION: ours, "state_dict": state}


def read(content: dict[str, Any]) -> Checkpoint:
    return read_checkpoint(PATH, content)


def test_a_file_tells_its_run_its_network_and_its_images() -> None:
    values = {
        "MODEL.NAME": "resnet18",
        "MODEL.LAST_STRIDE": 2,
        "INPUT.SIZE_TEST": [64, 32],
        "INPUT.LR_ANTIALIAS": False,
    }
    checkpoint = read(content(values, data="d1", scales=(1, 4)))
    assert (checkpoint.card.dataset, checkpoint.card.num_ids, checkpoint.data) == ("people", 5, "d1")
    assert (checkpoint.epoch, checkpoint.position, checkpoint.world_size) == (7, (7, 3), 2)
    assert checkpoint.is_reid_model
    assert checkpoint.kind == "checkpoint of baseline"
    names = {"name": "resnet18", "head": "bnneck", "pooling": "avg", "embedding_dim": 0}
    assert checkpoint.architecture == {**names, "last_stride": 2, "stem_relu": True, "stem_pool": "padded"}
    assert (checkpoint.preprocessing.size, checkpoint.preprocessing.antialias) == ((64, 32), False)
    assert list(checkpoint.state) == ["head.bn.weight"]
    assert list(checkpoint.objective) == ["terms.center.centers"]


def test_the_network_of_an_older_file_was_called_extractor() -> None:
    old = content()
    old["state_dict"] = {f"extractor.{name}": torch.ones(1) for name in ("backbone.base.w", "head.bn.weight")}
    assert list(read(old).state) == ["backbone.base.w", "head.bn.weight"]


@pytest.mark.parametrize(
    ("card", "values", "scales"),
    [
        ({"scales": (1, 2)}, {"INPUT.LR_SCALES": [4]}, {1, 2}),
        ({"scale": 4}, {"INPUT.LR_SCALES": [2, 4]}, {2, 4}),  # before a card told them
        ({"scale": 4}, {}, {4}),
    ],
)
def test_scales_of_the_training(card: dict[str, Any], values: dict[str, Any], scales: set[int]) -> None:
    assert read(content(values, **card)).scales == scales


@pytest.mark.parametrize(
    ("method", "weights", "terms"),
    [
        ("baseline", {"identity": 1.0, "triplet": 1.0, "center": 5e-4, "centroid_triplet": 0.0}, ["identity", "triplet", "center"]),
        ("octuplet", dict.fromkeys(WEIGHTS, 0.0), ["octuplet"]),
        ("octuplet_ctl", {**dict.fromkeys(WEIGHTS, 0.0), "center": 0.1}, ["octuplet", "center"]),
    ],
)  # fmt: skip
def test_terms_of_a_file_from_before_their_list(method: str, weights: dict[str, float], terms: list[str]) -> None:
    values = {WEIGHTS[name]: weight for name, weight in weights.items()}
    assert read(content(values, method=method)).config["SOLVER.TERMS"] == terms
    listed = read(content({**values, "SOLVER.TERMS": ["triplet"]}, method=method))
    assert listed.config["SOLVER.TERMS"] == ["triplet"]


def test_what_a_resumption_lacks_is_told() -> None:
    parts = {
        "optimizer_states": [{}],
        "loops": {"fit_loop": {}},
        "callbacks": {"a": {}},
        "rng": {"cpu": torch.ones(1)},
    }
    assert read({**content(), **parts}).lacking == ()
    for name, value in parts.items():
        for nothing in (type(value)(), None, "text", torch.ones(3)):
            assert read({**content(), **parts, name: nothing}).lacking == (name,)
    assert read(content()).lacking == tuple(parts)


@pytest.mark.parametrize("name", ["config", "epoch", "position", "num_ids"])
def test_an_entry_that_is_missing_is_named(name: str) -> None:
    damaged = content()
    del damaged[SECTION][name]
    with pytest.raises(ReidError, match=rf"{PATH} is a damaged checkpoint: it lacks '{name}'; .*another checkpoint$"):
        read(damaged)


@pytest.mark.parametrize("value", [None, -1, 2**40, 1.5, True, "text", [], {}, [1], [3, "a"], torch.ones(2), b"x"])
@pytest.mark.parametrize(
    "name", ["config", "dataset", "num_ids", "scale", "method", "data", "scales", "epoch", "position", "world_size"]
)
def test_an_entry_of_another_kind_is_named(name: str, value: object) -> None:
    damaged = content()
    damaged[SECTION][name] = value
    is_text = isinstance(value, str) and name in ("dataset", "method", "data")
    if is_text or (name == "scales" and value in ([], [1])):
        read(damaged)
        return
    with pytest.raises(ReidError, match=rf"^{PATH} is a damaged checkpoint: .*{name if value != 'text' else ''}"):
        read(damaged)


@pytest.mark.parametrize("section", [None, 3, [], "text", torch.ones(1)])
def test_a_section_of_another_kind_is_named(section: object) -> None:
    with pytest.raises(ReidError, match=rf"{PATH} is a damaged checkpoint: its section {SECTION} must be a mapping"):
        read({**content(), SECTION: section})


@pytest.mark.parametrize("state", [None, {3: torch.ones(1)}, {"network.a": 3}, [torch.ones(1)], "text"])
def test_tensors_of_another_kind_are_named(state: object) -> None:
    with pytest.raises(ReidError, match=rf"{PATH} is a damaged checkpoint: its state_dict must hold names and plain"):
        read({**content(), "state_dict": state})


def test_the_epoch_of_a_file(tmp_path: Path) -> None:
    torch.save(content(), tmp_path / "a.pth")
    assert epoch_of(tmp_path / "a.pth") == 7
