"""Resuming a run: exactly, overwriting nothing, and only what is the same run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from datasets.synthetic import draw_dataset
from engine.callbacks.epoch_log import read_metrics
from tests.engine.support import ONE_EPOCH, assert_same_weights, evaluate, resume
from tests.support import TINY, fit
from utils.errors import ReidError


def test_four_epochs_are_two_and_two_resumed(tiny_arguments: list[str]) -> None:
    options = ("SOLVER.MAX_EPOCHS", "4", "SOLVER.CHECKPOINT_PERIOD", "9", "SOLVER.LR_STEPS", "[1, 3]")
    straight = fit(tiny_arguments, *options).folder
    half = fit(tiny_arguments, *options, "SOLVER.MAX_EPOCHS", "2").folder
    before = (half / "1_last.pth").read_bytes()
    place = str(half.parents[3])
    folders = ("LOGS_DIR", place, "RUNS_DIR", place)  # the checkpoint knows all the rest
    assert fit(resume(half / "1_last.pth"), "SOLVER.MAX_EPOCHS", "4", *folders).folder == half.resolve()
    assert (half / "1_last.pth").read_bytes() == before
    assert_same_weights(straight / "3_last.pth", half / "3_last.pth")
    moments, others = (
        torch.load(folder / "3_last.pth", weights_only=True)["optimizer_states"][0]["state"]
        for folder in (straight, half)
    )
    torch.testing.assert_close(moments, others, rtol=0, atol=0)
    assert [row["epoch"] for row in read_metrics(half / "metrics.csv")] == ["0", "1", "2", "3"]


def test_resuming_from_an_earlier_checkpoint_overwrites_nothing(tiny_arguments: list[str]) -> None:
    first = fit(tiny_arguments).folder
    before = {path: path.read_bytes() for path in first.iterdir()}
    second = fit(tiny_arguments, *resume(first / "0.pth")).folder
    assert second.name == "exp1"
    assert {path: path.read_bytes() for path in first.iterdir()} == before
    assert_same_weights(first / "1_last.pth", second / "1_last.pth")


def test_resuming_refuses_what_would_be_another_run(tiny_arguments: list[str], tiny_checkpoint: Path) -> None:
    path = resume(tiny_checkpoint)
    with pytest.raises(ReidError, match=r"needs MODEL\.PRETRAIN_PATH, a checkpoint of a run, got none"):
        fit(tiny_arguments, "MODEL.RESUME_TRAINING", "True")
    with pytest.raises(ReidError, match=r"keeps its settings, got SOLVER\.BASE_LR \(0\.00035 -> 0\.1\)"):
        fit(tiny_arguments, *ONE_EPOCH, *path, "SOLVER.BASE_LR", "0.1")
    with pytest.raises(ReidError, match=r"MODEL\.NAME is osnet_x0_25 in the file and resnet34 here"):
        fit(tiny_arguments, *ONE_EPOCH, *path, "MODEL.NAME", "resnet34")


def test_resuming_says_when_nothing_is_left_or_the_data_are_others(
    tiny_arguments: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = fit(tiny_arguments).folder / "1_last.pth"
    with pytest.raises(ReidError, match=r"has finished epoch 1, the last of SOLVER\.MAX_EPOCHS 2; set it higher"):
        fit(tiny_arguments, *resume(path))
    other = draw_dataset(tmp_path / "tiny", replace(TINY, seed=9))
    min((other / "bounding_box_train").iterdir()).unlink()
    with pytest.raises(ReidError, match="training images of tiny must be those of the resumed run"):
        fit(tiny_arguments, *resume(path), "SOLVER.MAX_EPOCHS", "3", "DATASETS.NAMES", str(other))
    copy = tmp_path / "elsewhere" / "1_last.pth"
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    assert fit(tiny_arguments, *resume(copy), "SOLVER.MAX_EPOCHS", "3").folder.name == "exp1"
    assert f"{copy} lies outside its run" in caplog.text


def test_a_checkpoint_whose_network_was_called_extractor_goes_on(tiny_arguments: list[str], tmp_path: Path) -> None:
    """So our first checkpoints named its tensors; the optimizer knows them by their order alone."""
    folder = fit(tiny_arguments).folder
    for name in ("0.pth", "1_last.pth"):
        content = torch.load(folder / name, weights_only=True)
        state = {key.replace("network.", "extractor.", 1): tensor for key, tensor in content["state_dict"].items()}
        assert {key.partition(".")[0] for key in state} == {"extractor", "objective"}
        torch.save({**content, "state_dict": state}, tmp_path / name)
    again = fit(tiny_arguments, *resume(tmp_path / "0.pth")).folder
    assert_same_weights(folder / "1_last.pth", again / "1_last.pth")
    new, old = (evaluate(tiny_arguments, "MODEL.PRETRAIN_PATH", str(at / "1_last.pth")) for at in (folder, tmp_path))
    assert old.entries[0].result.average_precision.tolist() == new.entries[0].result.average_precision.tolist()
