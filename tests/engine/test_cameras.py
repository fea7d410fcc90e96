"""A network that looks at cameras is told those of training, and those of a test where a key says so."""

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

pytest.importorskip("timm")

from engine.run import FitResult
from modelling.backbones.vit import VisionTransformerBackbone
from tests.engine import support
from tests.engine.support import ONE_EPOCH, checkpoint_at, resume
from tests.support import fit, message_with
from utils.errors import ReidError

VIT = ("MODEL.NAME", "vit_tiny", "INPUT.SIZE_TRAIN", "[32,16]", "INPUT.SIZE_TEST", "[32,16]")
CAMERAS = (*VIT, "MODEL.CAMERAS", "6", "MODEL.PRETRAINED", "False")


@pytest.fixture
def cameras(monkeypatch: pytest.MonkeyPatch) -> dict[bool, set[int]]:
    """What the network is told in training (True) and in validation or test (False)."""
    told: dict[bool, set[int]] = {True: set(), False: set()}
    forward = VisionTransformerBackbone.forward

    def recording(self: VisionTransformerBackbone, images: Tensor, cameras: Tensor | None = None) -> Tensor:
        told[self.training] |= set() if cameras is None else set(cameras.tolist())  # a trial of a size tells none
        return forward(self, images, cameras)

    monkeypatch.setattr(VisionTransformerBackbone, "forward", recording)
    return told


@pytest.fixture
def trained(tiny_arguments: list[str], cameras: dict[bool, set[int]]) -> FitResult:
    result = fit(tiny_arguments, *ONE_EPOCH, *CAMERAS, "MODEL.HEAD", "jpm", "MODEL.RETRIEVAL_FEATURE", "raw")
    assert min(cameras[True]) == 0
    assert cameras[False] == {-1}
    cameras[False].clear()
    return result


def evaluate(path: Path, *more: str) -> float:
    output = ("OUTPUT_DIR", str(path.parent / "output"), "DATALOADER.NUM_WORKERS", "0")
    return support.evaluate(["MODEL.PRETRAIN_PATH", str(path), *output], *more).entries[0].result.mAP


def test_cameras_of_a_test_are_told_by_key_only(
    trained: FitResult, cameras: dict[bool, set[int]], caplog: pytest.LogCaptureFixture
) -> None:
    path = trained.folder / "0_last.pth"
    with caplog.at_level(logging.INFO):
        assert evaluate(path) == pytest.approx(trained.last[0].result.mAP, abs=1e-6)
    assert cameras[False] == {-1}
    assert len([line for line in caplog.messages if "mean of the network's 6 camera vectors" in line]) == 1
    cameras[False].clear()
    evaluate(path, "TEST.CAMERAS", "True")
    assert -1 not in cameras[False]
    assert cameras[False] <= set(range(6))
    with pytest.raises(ReidError, match=r"images of camera 1, but MODEL\.CAMERAS 6 and MODEL\.FIRST_CAMERA 3 mean "):
        evaluate(path, "TEST.CAMERAS", "True", "MODEL.FIRST_CAMERA", "3")


def test_the_table_learns_and_a_run_goes_on_bit_for_bit(tiny_arguments: list[str]) -> None:
    rate = ("SOLVER.OPTIMIZER_NAME", "SGD", "SOLVER.BASE_LR", "0.01")
    whole = fit(tiny_arguments, *CAMERAS, *rate, "SOLVER.CHECKPOINT_PERIOD", "1")
    first, last = whole.folder / "0.pth", whole.folder / "1_last.pth"
    tables = [checkpoint_at(path).state["backbone.base.sie_embed"] for path in (first, last)]
    assert not torch.equal(*tables)
    again = fit(tiny_arguments, *CAMERAS, *rate, "SOLVER.CHECKPOINT_PERIOD", "1", *resume(first))
    support.assert_same_weights(last, again.folder / "1_last.pth")


def test_a_new_run_may_have_other_cameras_and_images(trained: FitResult, tiny_arguments: list[str]) -> None:
    start = ("MODEL.PRETRAIN_PATH", str(trained.folder / "0_last.pth"), "MODEL.CAMERAS", "9", *VIT[:2])
    result = fit(tiny_arguments, *ONE_EPOCH, *start, "INPUT.SIZE_TRAIN", "[64,32]", "INPUT.SIZE_TEST", "[64,32]")
    state = checkpoint_at(result.folder / "0_last.pth").state
    assert state["backbone.base.sie_embed"].shape == (9, 1, 192)
    assert state["backbone.base.pos_embed"].shape == (1, 9, 192)


def test_cameras_beyond_the_table_are_refused(tiny_arguments: list[str]) -> None:
    with pytest.raises(ReidError, match=r"images of camera 2, but MODEL\.CAMERAS 1 and MODEL\.FIRST_CAMERA 1 mean "):
        fit(tiny_arguments, *ONE_EPOCH, *VIT, "MODEL.CAMERAS", "1", "MODEL.PRETRAINED", "False")
    with pytest.raises(ReidError, match=r"TEST\.CAMERAS True needs a network that looks at cameras"):
        fit(tiny_arguments, *ONE_EPOCH, "TEST.CAMERAS", "True")


def test_a_network_without_cameras_refuses_the_number(tiny_arguments: list[str]) -> None:
    with pytest.raises(ReidError, match=r"MODEL\.CAMERAS belongs to .*vit_base.*, got 6 for resnet18"):
        fit(tiny_arguments, *ONE_EPOCH, "MODEL.NAME", "resnet18", "MODEL.CAMERAS", "6")


def test_data_without_cameras_train_with_unknown_ones(
    tiny_arguments: list[str],
    tmp_path: Path,
    tiny_market: Path,
    cameras: dict[bool, set[int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "people"
    for path in (tiny_market / "bounding_box_train").glob("*.jpg"):
        person = folder / f"person_{path.name[:4]}"
        person.mkdir(parents=True, exist_ok=True)
        (person / path.name[5:]).write_bytes(path.read_bytes())
    with caplog.at_level(logging.INFO):
        fit(tiny_arguments, *ONE_EPOCH, *CAMERAS, "DATASETS.NAMES", str(folder))
    assert cameras[True] == {-1}
    assert message_with(caplog, "cameras of training images: unknown", "tells none")
