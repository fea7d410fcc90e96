"""A weight file in which one entry is replaced works, or ends in one clear line."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.model import load_model
from engine.settings import Settings
from tests.engine.support import resume
from tests.support import fit
from utils.errors import ReidError

Keys = tuple[Any, ...]
NOTHING = object()
ODD: list[object] = [
    *(None, True, -1, 0, 3, 10**30, 1.5, float("nan"), float("inf"), "", "text", "\x1b[2J\n", b"bytes"),
    *([], [1, "a"], (), {}, {3: 4}, {"a": {"b": []}}, set()),
    *(torch.ones(()), torch.ones(3), torch.ones(0), torch.full((2, 2), torch.nan), torch.ones(2, dtype=torch.int64)),
    *(torch.ones(3).to_sparse(), torch.ones(2, dtype=torch.complex64), torch.ones(2, device="meta"), NOTHING),
]
FEW = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def places(content: object, above: Keys = ()) -> Iterator[Keys]:
    """The keys to every entry, those of whole parts included; of very many side by side, a few."""
    entries = content.items() if isinstance(content, Mapping) else enumerate(content) if type(content) is list else ()
    for key, value in [*entries][:12]:
        yield (*above, key)
        yield from places(value, (*above, key))


def with_entry(content: Any, keys: Keys, value: object) -> Any:  # noqa: ANN401
    """A copy with another value at ``keys``, or without this entry."""
    changed = copy.copy(content)
    if len(keys) > 1:
        changed[keys[0]] = with_entry(content[keys[0]], keys[1:], value)
    elif value is NOTHING:
        del changed[keys[0]]
    else:
        changed[keys[0]] = value
    return changed


def works_or_says_why(action: Callable[[], object]) -> None:
    with suppress(ReidError):
        action()


def of_torchreid(content: Mapping[str, Any]) -> dict[str, Any]:
    """The same network as torchreid writes it."""
    state = {name.removeprefix("network.backbone.base."): tensor for name, tensor in content["state_dict"].items()}
    return {
        "state_dict": {
            **{name: tensor for name, tensor in state.items() if not name.startswith(("network.", "objective."))},
            "fc.0.weight": torch.ones(512, 128),
            "classifier.weight": torch.ones(7, 512),
        },
        "hyper_parameters": {"INPUT": {"SIZE_TEST": [256, 128], "PIXEL_MEAN": [0.5, 0.5, 0.5]}},
        "epoch": 3,
        "optimizer": {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{"lr": 0.1}]},
    }


@pytest.mark.parametrize("kind", ["ours", "torchreid"])
@FEW
@given(st.data())
def test_a_file_with_one_odd_entry_opens_or_says_why(
    kind: str, tiny_checkpoint: Path, tmp_path: Path, data: st.DataObject
) -> None:
    content = torch.load(tiny_checkpoint, weights_only=True)
    content = content if kind == "ours" else of_torchreid(content)
    place = data.draw(st.sampled_from([*places(content)]))
    torch.save(with_entry(content, place, data.draw(st.sampled_from(ODD))), tmp_path / "a.pth")
    works_or_says_why(lambda: load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(tmp_path / "a.pth")})))


@pytest.fixture(scope="module")
def half(tiny_market: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """Arguments of a run of two epochs, and its checkpoint after the first."""
    from tests.support import run_arguments

    arguments = run_arguments(tiny_market, tmp_path_factory.mktemp("half"))
    return arguments, fit(arguments).folder / "0.pth"


def resume_with(half: tuple[list[str], Path], keys: Keys, value: object, folder: Path) -> None:
    arguments, path = half
    torch.save(with_entry(torch.load(path, weights_only=True), keys, value), folder / "a.pth")
    fit(arguments, *resume(folder / "a.pth"), "LOGS_DIR", str(folder / "logs"), "RUNS_DIR", str(folder / "runs"))


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("optimizer_states",), []),
        (("optimizer_states", 1), NOTHING),
        (("optimizer_states", 0, "state"), {}),
        (("optimizer_states", 0, "state", 0, "exp_avg"), "text"),
        (("optimizer_states", 0, "param_groups"), 3),
        (("lr_schedulers",), NOTHING),
        (("loops",), {}),
        (("loops", "fit_loop"), NOTHING),
        (("loops", "fit_loop", "epoch_progress", "current", "completed"), "text"),
        (("loops", "fit_loop", "epoch_progress", "current", "completed"), 7),
        (("loops", "fit_loop", "epoch_progress", "total", "completed"), None),
        (("callbacks", "RunRecorder", "best"), "text"),
        (("rng", "cpu"), torch.ones(3)),
        (("rng",), 3),
        (("pytorch-lightning_version",), "text"),
        (("pytorch-lightning_version",), 3),
        (("state_dict", "network.head.bn.weight"), torch.full((512,), torch.nan)),
        (("state_dict", "objective.terms.center.centers"), NOTHING),
    ],
)
def test_a_damaged_checkpoint_is_not_resumed(
    half: tuple[list[str], Path], keys: Keys, value: object, tmp_path: Path
) -> None:
    with pytest.raises(ReidError, match=r"a\.pth .*(another|checkpoint)"):
        resume_with(half, keys, value, tmp_path)


@pytest.mark.slow
@settings(FEW, max_examples=15)
@given(st.data())
def test_a_file_with_one_odd_entry_is_resumed_or_says_why(
    half: tuple[list[str], Path], tmp_path: Path, data: st.DataObject
) -> None:
    content = torch.load(half[1], weights_only=True)
    place = data.draw(st.sampled_from([*places(content)]))
    value = data.draw(st.sampled_from(ODD))
    works_or_says_why(lambda: resume_with(half, place, value, tmp_path))
