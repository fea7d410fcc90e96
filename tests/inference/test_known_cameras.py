"""Cameras that a network has learned, told by number or by the names of files."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("timm")

from inference import create_embeddings, get_similar
from inference.extract import Extractor
from utils.errors import ReidError

CPU = ("TRAINER.ACCELERATOR", "cpu", "--precision", "fp32", "DATALOADER.NUM_WORKERS", "0")


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.inference.conftest import _write_checkpoint

    values = {"MODEL.NAME": "vit_tiny", "MODEL.CAMERAS": 3, "INPUT.SIZE_TRAIN": [32, 16], "MODEL.PRETRAINED": False}
    return _write_checkpoint(tmp_path_factory.mktemp("vit") / "best.pth", values=values)


def test_each_image_is_embedded_with_its_camera(vit: Path, images: Path, caplog: pytest.LogCaptureFixture) -> None:
    extractor = Extractor(vit, "cpu", batch_size=2, precision="fp32", workers=0)
    paths = sorted(images.iterdir())[:4]
    with caplog.at_level(logging.INFO):
        unknown = extractor(paths).vectors
        extractor(paths)
    lines = [line for line in caplog.messages if "mean of the network's 3 camera vectors" in line]
    assert len(lines) == 1
    told = extractor(paths, cameras=[0, 2, -1, 1]).vectors
    same = np.abs(told - unknown).max(axis=1) < 1e-5
    assert same.tolist() == [False, False, True, False]
    alone = extractor(paths[1], cameras=[2]).vectors
    np.testing.assert_allclose(alone, told[1:2], atol=1e-5)
    (part,) = extractor.stream(paths, np.array([3, 1]), np.array([0, 2, -1, 1]))
    np.testing.assert_allclose(part.vectors, told[[3, 1]], atol=1e-5)


@pytest.mark.parametrize(
    ("cameras", "message"),
    [
        ([3], r"cameras must be 0 to 2, as the network has learned them, or -1 \(unknown\), got 3"),
        ([-2], r"or -1 \(unknown\), got -2"),
        ([0, 1], r"one whole number for each of 1 images, got \(2,\) int64"),
        ([0.5], r"one whole number for each of 1 images, got \(1,\) float64"),
    ],
)
def test_wrong_cameras_are_refused(cameras: list[int], message: str, vit: Path, images: Path) -> None:
    with pytest.raises(ReidError, match=message):
        Extractor(vit, "cpu", precision="fp32")(next(images.iterdir()), cameras=cameras)


def test_cameras_need_a_network_that_looks_at_them(checkpoint: Path, images: Path) -> None:
    with pytest.raises(ReidError, match=r"cameras need a network that looks at cameras \(MODEL\.CAMERAS above 0\)"):
        Extractor(checkpoint, "cpu", precision="fp32")(next(images.iterdir()), cameras=[0])


def test_other_engines_embed_unknown_cameras_and_take_no_others(vit: Path, images: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = next(images.iterdir())
    extractor = Extractor(vit, "cpu", precision="fp32", engine="onnxruntime")
    np.testing.assert_allclose(
        extractor(path).vectors, Extractor(vit, "cpu", precision="fp32")(path).vectors, atol=1e-4
    )
    with pytest.raises(ReidError, match="engine onnxruntime takes no cameras; set engine torch"):
        extractor(path, cameras=[0])
    assert Extractor(vit, "cpu", engine="auto").choose(0).engine == "torch"


def test_a_gallery_is_told_the_cameras_in_its_names(
    vit: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("DATASETS.ROOT_DIR", str(images), "MODEL.PRETRAIN_PATH", str(vit), *CPU)
    arguments = [*common, "TEST.CAMERAS", "True", "OUTPUT_DIR", str(tmp_path / "out")]
    assert create_embeddings.main(arguments) == 0
    paths = np.load(tmp_path / "out/paths.npy").tolist()
    numbers = [int(Path(path).name.partition("_c")[2][0]) - 1 for path in paths]
    expected = Extractor(vit, "cpu", precision="fp32")(paths, cameras=numbers).vectors
    np.testing.assert_allclose(np.load(tmp_path / "out/embeddings.npy"), expected, atol=1e-5)
    assert json.loads((tmp_path / "out/meta.json").read_text())["cameras"] is True
    search = [*common, "--gallery_data", str(tmp_path / "out"), "OUTPUT_DIR", str(tmp_path / "found"), "--topk", "1"]
    assert get_similar.main(search) == 0
    assert "embedded with TEST.CAMERAS True, the queries with False: set both alike" in capsys.readouterr().err
    assert get_similar.main([*search, "TEST.CAMERAS", "True"]) == 0
    nearest = np.load(tmp_path / "found/results.npz")
    assert float(np.abs(nearest["distances"]).max()) < 1e-5


def test_a_camera_beyond_the_table_is_named(
    vit: Path,
    images: Path,
    tmp_path: Path,
    write_checkpoint: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    common = ("DATASETS.ROOT_DIR", str(images), *CPU, "TEST.CAMERAS", "True", "OUTPUT_DIR", str(tmp_path / "out"))
    wrong = ("MODEL.PRETRAIN_PATH", str(vit), "MODEL.FIRST_CAMERA", "2")
    assert create_embeddings.main([*common, *wrong]) != 0
    message = "0000_c1s1_000002_00.jpg is of camera 1, but the network knows the cameras 2 to 4"
    assert message in capsys.readouterr().err
    assert create_embeddings.main([*common, "MODEL.PRETRAIN_PATH", str(write_checkpoint(tmp_path / "b.pth"))]) != 0
    assert "TEST.CAMERAS True needs a network that looks at cameras" in capsys.readouterr().err
