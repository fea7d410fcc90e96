"""8 bits: what is quantized, and how near the vectors stay."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.model import load_model
from engine.settings import Settings
from inference import export
from inference.exports import accuracy
from inference.exports.accuracy import compare_accuracy
from inference.exports.check import read_pixels
from inference.extract import Extractor


@pytest.mark.parametrize("name", ["onnx", "openvino"])
@pytest.mark.parametrize("input", ["normalized", "pixels"])
def test_the_network_computes_in_8_bits_and_its_vectors_stay_near(
    input: str,  # noqa: A002 (name of the option)
    name: str,
    checkpoint: Path,
    images: Path,
    write_export: Callable[..., Path],
    tmp_path: Path,
) -> None:
    model = load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(checkpoint)}))
    pixels = read_pixels(images, model.preprocessing, 256)
    path = write_export(tmp_path / "file", checkpoint, name, input=input, calibration=pixels)
    file = Extractor(path)
    one, other = file(images).vectors, Extractor(checkpoint, "cpu", precision="fp32")(images).vectors
    cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert 0.97 < cosines.min() < 1 - 1e-6
    assert file.precision == "int8"
    size = path.with_suffix(".bin" if name == "openvino" else ".onnx").stat().st_size
    assert size < 0.3 * checkpoint.stat().st_size


def test_input_and_output_of_the_file_stay(
    checkpoint: Path, images: Path, write_export: Callable[..., Path], tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    model = load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(checkpoint)}))
    pixels = read_pixels(images, model.preprocessing, 256)
    graph = onnx.load(write_export(tmp_path / "file", checkpoint, calibration=pixels, unit=True)).graph
    (images_in,), (vectors,) = graph.input, graph.output
    floats = onnx.TensorProto.FLOAT
    assert [(value.name, value.type.tensor_type.elem_type) for value in (images_in, vectors)] == [
        ("images", floats),
        ("embedding", floats),
    ]
    assert images_in.type.tensor_type.shape.dim[0].dim_param
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    producers = {output: node.op_type for node in graph.node for output in node.output}
    assert len(convolutions) == 20
    assert {producers[name] for node in convolutions for name in node.input[:2]} == {"DequantizeLinear"}
    scales = {value.name: value.dims for value in graph.initializer}
    weights = [next(node for node in graph.node if node.output[0] == conv.input[1]) for conv in convolutions]
    assert all(len(scales[node.input[1]]) == 1 for node in weights)  # one for each output channel
    assert not {"QuantizeLinear", "DequantizeLinear"} & {producers["embedding"]}


def test_the_map_is_compared_on_the_data_set_that_the_user_names(
    checkpoint: Path,
    exported: Path,
    tiny_market: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    weights = {"MODEL.PRETRAIN_PATH": str(checkpoint)}
    model = load_model(Settings({}, weights))
    assert compare_accuracy(model, exported, Settings({}, weights)) == []
    settings = Settings({}, {**weights, "DATASETS.NAMES": str(tiny_market), "DATALOADER.NUM_WORKERS": 0})
    (row,) = compare_accuracy(model, exported, settings)
    assert row.dataset == "tiny"
    assert row.before == pytest.approx(row.after, abs=0.01)
    assert 0 < row.before < 100
    assert "points of mAP are lost" not in caplog.text
    figures = iter([81.0, 80.4])
    monkeypatch.setattr(accuracy, "_mean_ap", lambda *_: next(figures))
    assert str(*compare_accuracy(model, exported, settings)) == "tiny: mAP 81.00 in torch, 80.40 by the file (-0.60)"
    assert "tiny: more than 0.5 points of mAP are lost" in caplog.text


def test_the_figures_are_those_of_test_py(
    checkpoint: Path, exported: Path, tiny_market: Path, tmp_path: Path
) -> None:
    from engine.run import evaluate

    values = {
        "MODEL.PRETRAIN_PATH": str(checkpoint),
        "DATASETS.NAMES": str(tiny_market),
        "DATALOADER.NUM_WORKERS": 0,
        "TRAINER.ACCELERATOR": "cpu",
        "OUTPUT_DIR": str(tmp_path / "test"),
    }
    settings = Settings({}, values)
    (report,) = evaluate(settings)
    (row,) = compare_accuracy(load_model(settings), exported, settings)
    assert row.before == pytest.approx(100 * report.entries[0].result.mAP, abs=1e-6)


def test_the_script_quantizes_and_prints_the_map(
    checkpoint: Path, images: Path, tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    values = ["MODEL.PRETRAIN_PATH", str(checkpoint), "OUTPUT_DIR", str(tmp_path / "out"), "DATASETS.NAMES"]
    arguments = ["--int8", str(images), *values, str(tiny_market), "DATALOADER.NUM_WORKERS", "0"]
    assert export.main(arguments) == 0
    output = capsys.readouterr()
    assert output.out.startswith("tiny: mAP ")
    assert "32 x 16 float32 normalized -> N x 512 float32, computed in int8" in output.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.json", "model.onnx"]


@pytest.mark.realdata
@pytest.mark.slow
def test_trained_weights_on_real_images(workshop: Path, write_export: Callable[..., Path], tmp_path: Path) -> None:
    weights, data = workshop / "weights/osnet_x0_25_msmt17.pth", workshop / "data/cuhk03_dev"
    model = load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(weights)}))
    pixels = read_pixels(data / "bounding_box_train", model.preprocessing, 128)
    path = write_export(tmp_path / "file", weights, calibration=pixels)
    photos = sorted((data / "query").glob("*.*"))[:64]
    one, other = Extractor(path)(photos).vectors, Extractor(weights, "cpu", precision="fp32")(photos).vectors
    distances = 1 - torch.cosine_similarity(*map(torch.from_numpy, (one, other)))
    assert distances.median() < 0.02
    assert distances.max() < 0.1
