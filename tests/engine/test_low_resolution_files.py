"""DATASETS.LR_SOURCE disk: training and test on the files of makelr.py."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import finetune_octuplet as octuplet_script
import makelr
import test as evaluation_script
import train as train_script
from losses.octuplet import OctupletLoss
from tests.engine.support import ONE_EPOCH, evaluate, report_at
from tests.support import fit
from utils.errors import ReidError


@pytest.fixture
def twinned_arguments(tiny_market: Path, tiny_arguments: list[str], tmp_path: Path) -> list[str]:
    """A data set with its files at x2 and x4."""
    folder = shutil.copytree(tiny_market, tmp_path / "people")
    assert makelr.main(["--scale", "2", "4", "--data_dir", str(folder), "--workers", "1"]) == 0
    tiny_arguments[tiny_arguments.index("DATASETS.NAMES") + 1] = str(folder)
    return [*tiny_arguments, "DATASETS.LR_SOURCE", "disk", *ONE_EPOCH]


def test_training_validation_and_test_read_the_files(
    twinned_arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_script.main(["--scale", "4", *twinned_arguments]) == 0
    assert "low resolution x4 16x8 (files)" in capsys.readouterr().err
    folder = tmp_path / "logs/people/osnet_x0_25/baseline/exp0"
    validation = report_at(folder / "report_0.json")
    assert validation["resolutions"] == [{"scale": 4, "height": 16, "width": 8, "source": "disk"}]
    (tmp_path / "people_x4").rename(tmp_path / "away")
    use = ["--scale", "4", *twinned_arguments, "MODEL.PRETRAIN_PATH", str(folder / "0_last.pth")]
    assert evaluation_script.main(use) == 2  # so the test read them, too
    (tmp_path / "away").rename(tmp_path / "people_x4")
    assert evaluation_script.main(use) == 0
    test = report_at(tmp_path / "output/report.json")
    assert test["results"][0]["mAP"] == pytest.approx(validation["results"][0]["mAP"])


def test_what_the_network_sees_is_the_file(
    twinned_arguments: list[str], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    checkpoint = ["MODEL.PRETRAIN_PATH", str(tiny_checkpoint)]
    matrix = evaluate([*twinned_arguments, *checkpoint], "TEST.SCALES", "[1, 2, 4]", "TEST.SCALE_PAIRS", "all")
    assert [str(size) for size in matrix.resolutions] == ["x1 32x16", "x2 32x16 (files)", "x4 16x8 (files)"]
    # The x4 folder as a data set of its own, at full resolution: the same images, resized another way.
    alone = [*twinned_arguments, *checkpoint, "DATASETS.LR_SOURCE", "online", "INPUT.INTERPOLATION", "bicubic"]
    alone[alone.index("DATASETS.NAMES") + 1] = str(tmp_path / "people_x4")
    small = evaluate(alone)
    low = next(e for e in matrix.entries if e.protocol.scales == (4, 4))
    assert low.result.mAP == pytest.approx(small.entries[0].result.mAP, abs=0.02)


def test_octuplet_twins_come_from_the_files(
    twinned_arguments: list[str], tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = list[torch.Tensor]()
    for path in (tmp_path / "people_x4").rglob("*.jpg"):  # files that can be told from what the device would make
        Image.fromarray(np.zeros((16, 8, 3), np.uint8)).save(path)
    plain = OctupletLoss.with_statistics

    def spy(self: OctupletLoss, high: torch.Tensor, low: torch.Tensor, *rest: object) -> torch.Tensor:
        features.append(low.detach())
        return plain(self, high, low, *rest)

    monkeypatch.setattr(OctupletLoss, "with_statistics", spy)
    still = ["INPUT.RE_PROB", "0", "INPUT.PADDING", "0", "MODEL.PRETRAIN_PATH", str(tiny_checkpoint)]
    assert octuplet_script.main(["--scale", "4", *twinned_arguments, *still]) == 0
    assert features
    for low in features:  # all twins are one black image
        torch.testing.assert_close(low, low[:1].expand_as(low))


def test_several_scales_are_drawn_among_the_files(twinned_arguments: list[str]) -> None:
    result = fit(twinned_arguments, "INPUT.LR_SCALES", "[1, 2, 4]")
    assert [entry.protocol.scales for entry in result.last] == [(1, 1), (2, 2), (4, 4)]


def test_mistakes_are_named_before_training(twinned_arguments: list[str], tmp_path: Path) -> None:
    with pytest.raises(ReidError, match=r"people_x3 must exist, but does not; make it: python makelr.py --scale 3"):
        fit(twinned_arguments, "INPUT.SCALE", "3")
    with pytest.raises(ReidError, match=r"INPUT.LR_ANTIALIAS False acts on DATASETS.LR_SOURCE online only"):
        fit(twinned_arguments, "INPUT.SCALE", "4", "INPUT.LR_ANTIALIAS", "False")
    assert not (tmp_path / "logs").exists()
