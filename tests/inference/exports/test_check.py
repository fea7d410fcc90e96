"""A file whose vectors are not those of torch is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.model import load_model
from engine.settings import Settings
from inference.exports import Export, ExportOptions, base
from inference.exports.check import check_export, read_pixels
from utils.errors import ReidError
from utils.files import sha256_of


def export_of(checkpoint: Path, **options: object) -> Export:
    model = load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(checkpoint)}))
    return Export(model, ExportOptions(**options))  # type: ignore[arg-type]


def test_the_same_network_passes_on_random_and_on_real_images(checkpoint: Path, exported: Path, images: Path) -> None:
    export = export_of(checkpoint)
    random = check_export(exported, export)
    real = check_export(exported, export, read_pixels(images, export.model.preprocessing, 256))
    assert (random.images, real.images) == (1 + 3 + 8, 1 + 3 + 6 + 6)
    assert max(random.largest, real.largest, random.length, real.length) < 1e-5


def test_another_network_is_refused(exported: Path, write_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    other = export_of(write_checkpoint(tmp_path / "other.pth", 1))
    with pytest.raises(
        ReidError, match=r"must be those of torch to a cosine distance of 1e-05 .*; no file was written"
    ):
        check_export(exported, other)


def test_vectors_of_another_length_are_refused(checkpoint: Path, exported: Path) -> None:
    with pytest.raises(ReidError, match=r"a length of 0\.001, got .* \(median .*\) and \d"):
        check_export(exported, export_of(checkpoint, unit=True))  # the file's are not of length 1


def test_a_network_that_gives_no_numbers_is_refused(checkpoint: Path, exported: Path) -> None:
    export = export_of(checkpoint)
    with torch.no_grad():
        export.model.network.head.bn.weight.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(ReidError, match="got nan"):
        check_export(exported, export)


def test_a_file_for_one_number_of_images_is_refused(checkpoint: Path, exported: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    folder = shutil.copytree(exported.parent, tmp_path / "folder")
    model = onnx.load(folder / "model.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, folder / "model.onnx")
    card = json.loads((folder / "model.json").read_text())
    card["files"] = {".onnx": sha256_of(folder / "model.onnx")}
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(ReidError, match=r"must take any number of images, but fails with 3: .*; no file was written"):
        check_export(folder / "model.onnx", export_of(checkpoint))


def test_8_bits_are_measured_by_the_median(checkpoint: Path, exported: Path, images: Path, tmp_path: Path) -> None:
    model = export_of(checkpoint).model
    pixels = read_pixels(images, model.preprocessing, 256)
    folder = shutil.copytree(exported.parent, tmp_path / "folder")
    export = Export(model, ExportOptions(calibration=pixels))
    assert check_export(folder / "model.onnx", export, pixels).median < 1e-5
    with torch.no_grad():
        model.network.head.bn.weight.uniform_(-1, 1)  # type: ignore[union-attr, operator]
    with pytest.raises(
        ReidError, match=r"to a median cosine distance of 0.1, got .*; no file was written; give --int8"
    ):
        check_export(folder / "model.onnx", export, pixels)


def test_images_are_spread_over_a_folder_and_unreadable_ones_are_named(
    images: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    preprocessing = export_of(checkpoint).model.preprocessing
    everything = read_pixels(images, preprocessing, 100)
    assert (everything.shape, everything.dtype) == ((6, 3, 32, 16), torch.uint8)
    some = read_pixels(images, preprocessing, 3)
    assert [any(torch.equal(image, other) for other in some) for image in everything] == [True, False] * 3
    paths = sorted(images.glob("0*.jpg"))
    paths[0].write_bytes(b"no image")
    assert len(read_pixels(images, preprocessing, 100)) == 5
    assert paths[0].name in caplog.text
    for path in paths:
        path.write_bytes(b"no image")
    with pytest.raises(ReidError, match=f"none of the images in {images} could be read; see the messages above"):
        read_pixels(images, preprocessing, 100)


def test_an_absent_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.engines.base.find_spec", lambda name: None if name.startswith("onnx") else True)
    row = base.Format(lambda *_: None, ("model.x",), ("torch",), ("onnx", "torch", "onnxscript"))
    message = "--format x needs libraries that are not installed: pip install onnx onnxscript"
    with pytest.raises(ReidError, match=message):
        row.check_libraries("x")
