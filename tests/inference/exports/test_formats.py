"""A program that knows nothing of this project computes the exported files and gets the vectors of torch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.model import TrainedModel, load_model
from engine.settings import Settings
from inference.exports import FORMATS, Export, ExportOptions
from inference.exports.check import check_export

Run = Callable[[np.ndarray], np.ndarray]
SIZE = (64, 32)
FAMILIES: dict[str, dict[str, object]] = {
    "osnet": {"MODEL.NAME": "osnet_ain_x0_25", "MODEL.HEAD": "projection"},
    "mgn": {"MODEL.HEAD": "mgn", "INPUT.SIZE_TRAIN": [96, 32], "INPUT.SIZE_TEST": [96, 32]},
    "timm ViT": {"MODEL.NAME": "timm:test_vit"},
    "swin_solider": {"MODEL.NAME": "swin_tiny_solider"},
    "ViT with cameras": {"MODEL.NAME": "vit_tiny", "MODEL.CAMERAS": 3},
    "CLIP": {"MODEL.NAME": "clip_vit_base"},
    "lmbn": {
        "MODEL.NAME": "osnet_x0_25",
        "MODEL.HEAD": "lmbn",
        "INPUT.SIZE_TRAIN": [96, 32],
        "INPUT.SIZE_TEST": [96, 32],
    },
    "ViT with jpm": {"MODEL.NAME": "vit_tiny", "MODEL.HEAD": "jpm"},
}


def onnxruntime_session(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["images"]
    assert [value.name for value in session.get_outputs()] == ["embedding"]
    return lambda images: session.run(None, {"images": images})[0]


def openvino_model(path: Path) -> Run:
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert [value.get_any_name() for value in compiled.inputs] == ["images"]
    assert [value.get_any_name() for value in compiled.outputs] == ["embedding"]
    return lambda images: compiled({"images": images})["embedding"].copy()


READERS = {"onnx": onnxruntime_session, "openvino": openvino_model}


def by_torch(checkpoint: Path, pixels: torch.Tensor) -> torch.Tensor:
    """The vectors of (N, 3, H, W) uint8 pixels, normalized by hand, one image after another."""
    model = load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(checkpoint)}))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (model.preprocessing.mean, model.preprocessing.std))
    with torch.no_grad():
        return torch.cat([model.network.embed(((image / 255 - mean) / std)[None]) for image in pixels])


def test_every_format_is_tried_here() -> None:
    assert set(READERS) == {name for name, row in FORMATS.items() if row.engines}


@pytest.mark.parametrize("name", READERS)
def test_a_file_takes_normalized_images_of_any_number(
    name: str, checkpoint: Path, write_export: Callable[..., Path], tmp_path: Path
) -> None:
    run = READERS[name](write_export(tmp_path, checkpoint, name))
    pixels = torch.randint(256, (5, 3, 32, 16))
    reference = by_torch(checkpoint, pixels)
    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32).reshape(2, 3, 1, 1)
    for count in (1, 5, 2):
        vectors = run((pixels[:count].numpy().astype(np.float32) / 255 - mean) / std)
        assert (vectors.shape, vectors.dtype) == ((count, 512), np.float32)
        np.testing.assert_allclose(vectors, reference[:count], atol=1e-4 * float(reference.abs().max()))


@pytest.mark.parametrize("name", READERS)
def test_a_file_takes_bytes_and_gives_vectors_of_length_1(
    name: str, checkpoint: Path, write_export: Callable[..., Path], tmp_path: Path
) -> None:
    run = READERS[name](write_export(tmp_path, checkpoint, name, input="pixels", unit=True))
    pixels = torch.randint(256, (3, 3, 32, 16), dtype=torch.uint8)
    reference = torch.nn.functional.normalize(by_torch(checkpoint, pixels))
    for count in (1, 3):
        vectors = run(pixels[:count].permute(0, 2, 3, 1).contiguous().numpy())
        np.testing.assert_allclose(vectors, reference[:count], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_of_each_family_becomes_a_file(
    family: str, write_checkpoint: Callable[..., Path], write_export: Callable[..., Path], tmp_path: Path
) -> None:
    values = {"MODEL.PRETRAINED": False, "INPUT.SIZE_TRAIN": [*SIZE], "INPUT.SIZE_TEST": [*SIZE], **FAMILIES[family]}
    checkpoint = write_checkpoint(tmp_path / "best.pth", 0, values)
    model: TrainedModel = load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(checkpoint)}))
    path = write_export(tmp_path / "file", checkpoint)
    comparison = check_export(path, Export(model, ExportOptions()))
    assert comparison.images == 12
    assert comparison.largest <= 1e-5
