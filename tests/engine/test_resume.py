"""Resuming a run: exactly, overwriting nothing, and only what is the same run."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from datasets.synthetic import SyntheticSpec, draw_dataset
from tests.support import fit
from utils.errors import ReidError

TINY = SyntheticSpec(train_ids=8, test_ids=6, cameras=2, images_per_camera=3, height=64, width=32)


def test_four_epochs_are_two_and_two_resumed(
    tiny_arguments: list[str], assert_same_weights: Callable[[Path, Path], None]
) -> None:
    options = ("SOLVER.MAX_EPOCHS", "4", "SOLVER.CHECKPOINT_PERIOD", "9", "SOLVER.LR_STEPS", "[1, 3]")
    straight = fit(tiny_arguments, *options)
    half = fit(tiny_arguments, *options, "SOLVER.MAX_EPOCHS", "2")
    before = (half.folder / "1_last.pth").read_bytes()
    resumed = fit(
        tiny_arguments[:0],
        *("MODEL.RESUME_TRAINING", "True", "MODEL.PRETRAIN_PATH", str(half.folder / "1_last.pth")),
        *(
            "SOLVER.MAX_EPOCHS",
            "4",
            "LOGS_DIR",
            str(half.folder.parents[3]),
            "RUNS_DIR",
            str(half.folder.parents[3]),
        ),
    )
    assert resumed.folder == half.folder.resolve()
    assert (half.folder / "1_last.pth").read_bytes() == before
    assert_same_weights(straight.folder / "3_last.pth", half.folder / "3_last.pth")
    moments, continued = (
        torch.load(f.folder / "3_last.pth", weights_only=True)["optimizer_states"][0]["state"]
        for f in (straight, half)
    )
    assert moments.keys() == continued.keys()
    assert [
        (number, name)
        for number, state in moments.items()
        for name, value in state.items()
        if not torch.equal(value, continued[number][name])
    ] == []
    rows = list(csv.DictReader((half.folder / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]


def test_resuming_from_an_earlier_checkpoint_overwrites_nothing(
    tiny_arguments: list[str], assert_same_weights: Callable[[Path, Path], None]
) -> None:
    first = fit(tiny_arguments)
    before = {path: path.read_bytes() for path in first.folder.iterdir()}
    second = fit(tiny_arguments, "MODEL.RESUME_TRAINING", "True", "MODEL.PRETRAIN_PATH", str(first.folder / "0.pth"))
    assert second.folder.name == "exp1"
    assert {path: path.read_bytes() for path in first.folder.iterdir()} == before
    assert_same_weights(first.folder / "1_last.pth", second.folder / "1_last.pth")


def test_resuming_refuses_what_would_be_another_run(tiny_arguments: list[str]) -> None:
    path = str(fit(tiny_arguments, "SOLVER.MAX_EPOCHS", "1").folder / "0_last.pth")
    resume = ("MODEL.RESUME_TRAINING", "True")
    with pytest.raises(ReidError, match=r"needs MODEL\.PRETRAIN_PATH, a checkpoint of a run, got none"):
        fit(tiny_arguments, *resume)
    with pytest.raises(ReidError, match=r"keeps its settings, got SOLVER\.BASE_LR \(0\.00035 -> 0\.1\)"):
        fit(tiny_arguments, *resume, "MODEL.PRETRAIN_PATH", path, "SOLVER.BASE_LR", "0.1")
    with pytest.raises(ReidError, match=r"MODEL\.NAME is osnet_x0_25 in the file and resnet34 here"):
        fit(tiny_arguments, *resume, "MODEL.PRETRAIN_PATH", path, "MODEL.NAME", "resnet34")


def test_resuming_says_when_nothing_is_left_or_the_data_are_others(
    tiny_arguments: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = fit(tiny_arguments).folder / "1_last.pth"
    resume = ("MODEL.RESUME_TRAINING", "True", "MODEL.PRETRAIN_PATH")
    with pytest.raises(ReidError, match=r"has finished epoch 1, the last of SOLVER\.MAX_EPOCHS 2; set it higher"):
        fit(tiny_arguments, *resume, str(path))
    other = draw_dataset(tmp_path / "tiny", replace(TINY, seed=9))
    (other / "bounding_box_train" / sorted(p.name for p in (other / "bounding_box_train").iterdir())[0]).unlink()
    with pytest.raises(ReidError, match="training images of tiny must be those of the resumed run"):
        fit(tiny_arguments, *resume, str(path), "SOLVER.MAX_EPOCHS", "3", "DATASETS.NAMES", str(other))
    moved = tmp_path / "elsewhere" / "1_last.pth"
    moved.parent.mkdir()
    moved.write_bytes(path.read_bytes())
    again = fit(tiny_arguments, *resume, str(moved), "SOLVER.MAX_EPOCHS", "3")
    assert again.folder.name == "exp1"
    assert "lies outside its run" in caplog.text
