"""What lies beside an exported file decides how it is opened; damage and contradictions are one clear line."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.settings import Settings
from inference.exports.opened import ExportedModel, open_exported, open_model
from inference.extract import Extractor
from utils.errors import ReidError


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """An exported file that a test may damage."""
    return Path(shutil.copytree(exported.parent, tmp_path / "copy")) / exported.name


def change(path: Path, **values: object) -> None:
    """Change what lies beside a file."""
    card = path.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **values}))


def embed(path: Path, **overrides: object) -> Extractor:
    settings = Settings({}, {"MODEL.PRETRAIN_PATH": str(path), **overrides})
    return Extractor(open_model(settings), "cpu", 4, "auto", 0)


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


@pytest.mark.parametrize(("input", "unit"), [("normalized", False), ("pixels", True)])
def test_an_extractor_opens_a_file_as_its_checkpoint(
    input: str,  # noqa: A002 (name of the option)
    unit: bool,
    checkpoint: Path,
    images: Path,
    write_export: Callable[..., Path],
    tmp_path: Path,
) -> None:
    path = write_export(tmp_path / "file", checkpoint, input=input, unit=unit)
    file, network = Extractor(path, batch_size=4), Extractor(checkpoint, "cpu", precision="fp32")
    one, other = file(images), network(images)
    assert one.paths.tolist() == other.paths.tolist()
    assert cosines(one.vectors, other.vectors).min() > 1 - 1e-5
    length = 1 if unit else np.linalg.norm(other.vectors, axis=1)
    np.testing.assert_allclose(np.linalg.norm(one.vectors, axis=1), length, rtol=1e-3)
    assert file.card == network.card
    assert str(file.choose(0)) == f"onnxruntime {'fp32-unit' if unit else 'fp32'} contiguous"


def test_low_resolution_is_made_before_bytes_too(
    checkpoint: Path, images: Path, write_export: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_export(tmp_path / "file", checkpoint, input="pixels")
    low = {"INPUT.SCALE": 4}
    one, whole = embed(path, **low)(images).vectors, embed(path)(images).vectors
    other = embed(checkpoint, **low)(images).vectors
    assert cosines(one, other).min() > 1 - 1e-4  # bytes are rounded
    assert cosines(one, whole).max() < cosines(one, other).min()


def test_a_file_may_have_another_name(copy: Path, images: Path) -> None:
    renamed = copy.with_name("osnet_x1_0_ours.onnx")
    copy.rename(renamed)
    with pytest.raises(ReidError, match=r"with osnet_x1_0_ours\.json beside it, but lacks .*osnet_x1_0_ours\.json$"):
        embed(renamed)
    copy.with_suffix(".json").rename(renamed.with_suffix(".json"))
    assert len(embed(renamed)(images)) == 6


def test_openvino_needs_both_of_its_files(
    checkpoint: Path, images: Path, write_export: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_export(tmp_path / "file", checkpoint, "openvino")
    other = Extractor(checkpoint, "cpu", precision="fp32")(images).vectors
    assert cosines(Extractor(path)(images).vectors, other).min() > 1 - 1e-5
    weights = path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ReidError, match=r"model\.bin is not the file that model\.json describes, or is damaged"):
        Extractor(path)
    weights.unlink()
    with pytest.raises(ReidError, match=r"model\.bin is not the file that model\.json describes"):
        Extractor(path)


def test_another_file_under_its_name_is_refused(copy: Path) -> None:
    copy.write_bytes(copy.read_bytes()[:-1])
    with pytest.raises(
        ReidError, match=r"model\.onnx is not the file that model\.json describes, or is damaged; expo"
    ):
        embed(copy)
    copy.unlink()
    with pytest.raises(ReidError, match=r"must be an exported file .*, but lacks .*model\.onnx$"):
        embed(copy)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"sha256": None, "dim": "many"}, "ValueError"),
        ({"input": "photos"}, "ReidError: input, unit and precision are"),
        ({"unit": "yes"}, "ReidError: input, unit and precision are"),
        ({"precision": "int4"}, "ReidError: input, unit and precision are"),
        ({"size": [0, 16]}, r"INPUT\.SIZE_TEST must be"),
        ({"size": 5}, r"INPUT\.SIZE_TEST must be"),
        ({"mean": [0.5, 0.5]}, r"INPUT\.PIXEL_MEAN must be"),
        ({"std": [0.5, 0.5, 0]}, r"INPUT\.PIXEL_STD must be"),
        ({"interpolation": "best"}, r"INPUT\.INTERPOLATION must be"),
        ({"dim": -1}, "dim must be 1 or more, got -1"),
        ({"files": None}, "AttributeError"),
        ({"files": {}}, "is not the file that model.json describes"),
    ],
)
def test_damage_is_named(values: dict[str, Any], reason: str, copy: Path) -> None:
    change(copy, **values)
    with pytest.raises(ReidError, match=reason) as caught:
        embed(copy)
    assert "\n" not in str(caught.value)
    assert "export it again with inference/export.py" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"input": 1}', "\x00\xff"])
def test_text_that_is_none_is_named(text: str, copy: Path) -> None:
    copy.with_suffix(".json").write_text(text)
    with pytest.raises(ReidError, match=r"model\.json is damaged \(.*\); export it again"):
        embed(copy)


def test_a_file_keeps_the_images_of_its_export(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ReidError, match=r"keeps the images of its export, INPUT\.SIZE_TEST \[32, 16\], got"):
        embed(copy, **{"INPUT.SIZE_TEST": [64, 32]})
    assert isinstance(open_exported(copy, Settings({}, {"INPUT.SIZE_TEST": [32, 16]})), ExportedModel)
    with caplog.at_level(logging.WARNING):
        open_exported(copy, Settings({"INPUT.SIZE_TEST": [64, 32]}, {}))
    assert "INPUT.SIZE_TEST [64, 32] in the configuration file is left out: the export has [32, 16]" in caplog.text
    assert open_exported(copy, Settings({}, {"INPUT.SCALE": 4})).card.preprocessing.scale == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cpu", 4, "bf16"), r"computes in fp32, got precision bf16; leave it out"),
        (("cpu", 4, "auto", 0, "torch"), r"is computed by engine onnxruntime or openvino, got torch; leave it out"),
        (("cpu", 4, "auto", 0, "onnx"), r"is computed by engine onnxruntime or openvino, got onnx"),
        (("cuda", 4), r"device cuda needs a CUDA device|engine onnxruntime computes on cpu only, got cuda"),
    ],
)
def test_what_a_file_cannot_do(arguments: tuple[Any, ...], message: str, exported: Path) -> None:
    with pytest.raises(ReidError, match=message):
        Extractor(exported, *arguments)


def test_either_engine_computes_onnx(exported: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    one, other = (Extractor(exported, engine=engine)(images).vectors for engine in ("onnxruntime", "openvino"))
    assert cosines(one, other).min() > 1 - 1e-5
    monkeypatch.setattr("inference.engines.base.find_spec", lambda name: None if name != "openvino" else True)
    assert Extractor(exported, engine="auto").choose(0).engine == "openvino"  # it needs no library that writes files
    with pytest.raises(ReidError, match=r"engine onnxruntime needs .* not installed: pip install onnxruntime$"):
        Extractor(exported)


def test_a_report_was_measured_in_float(copy: Path) -> None:
    change(copy, report={"results": []})
    assert embed(copy).report == {"results": []}
    change(copy, precision="int8")
    assert embed(copy).report == {"results": [], "searched_in": "8 bits"}


def test_a_file_takes_no_cameras(exported: Path, images: Path) -> None:
    with pytest.raises(ReidError, match="engine onnxruntime takes no cameras"):
        Extractor(exported)(images, cameras=[0] * 6)
