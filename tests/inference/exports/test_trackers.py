"""Trackers feed exported files as they cut people out of a frame, and get the vectors of the network.

What they do is told in docs/export.md: BoxMOT 25 and Ultralytics 8.4.190 were read, and tried once with their own code.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.model import load_model
from engine.settings import Settings

BOXES = np.array([[10.4, 5.6, 40.2, 90.7], [-6.0, 20.0, 25.0, 130.0], [60.0, 30.0, 79.0, 60.0]])  # x1, y1, x2, y2


@pytest.fixture
def frame() -> NDArray[np.uint8]:
    """A smooth picture, BGR."""
    small = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    return cv2.resize(small, (100, 120), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(params=["ImageNet's", "other"])
def network(
    request: pytest.FixtureRequest, checkpoint: Path, write_checkpoint: Callable[..., Path], tmp_path: Path
) -> Path:
    """A checkpoint whose images are normalized as for ImageNet, and one of other images."""
    if request.param == "ImageNet's":
        return checkpoint
    means = {"INPUT.PIXEL_MEAN": [0.5, 0.4, 0.3], "INPUT.PIXEL_STD": [0.5, 0.25, 0.3]}
    return write_checkpoint(tmp_path / "other.pth", 0, means)


def crops_of(frame: NDArray[np.uint8], gain: float = 1.0, pad: float = 0.0) -> list[NDArray[np.uint8]]:
    """The boxes, made larger, as far as they lie in the frame."""
    middles, sizes = (BOXES[:, :2] + BOXES[:, 2:]) / 2, (BOXES[:, 2:] - BOXES[:, :2]) * gain + pad
    corners = np.concatenate([middles - sizes / 2, middles + sizes / 2], axis=1).round().astype(int).clip(0)
    return [frame[top:bottom, left:right] for left, top, right, bottom in corners]


def run(path: Path, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first output for the first input, whatever their names, as vectors of length 1."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    vectors = session.run([session.get_outputs()[0].name], {session.get_inputs()[0].name: batch})[0]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def size_in(path: Path) -> tuple[int, int]:
    """Height and width as trackers read them from the file; the number of images must be open."""
    import onnxruntime

    batch, channels, height, width = onnxruntime.InferenceSession(path).get_inputs()[0].shape
    assert (isinstance(batch, str), channels) == (True, 3)
    return height, width


def by_network(checkpoint: Path, fractions: torch.Tensor) -> NDArray[np.float32]:
    """The vectors of (N, 3, H, W) RGB in [0, 1] by torch, of length 1."""
    model = load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(checkpoint)}))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (model.preprocessing.mean, model.preprocessing.std))
    with torch.no_grad():
        return torch.nn.functional.normalize(model.network.embed((fractions - mean) / std)).numpy()


def test_boxmot(network: Path, frame: NDArray[np.uint8], write_export: Callable[..., Path], tmp_path: Path) -> None:
    """It resizes without antialiasing, and normalizes as for ImageNet whatever the network wants."""
    path = write_export(tmp_path / "file", network, input="imagenet")
    height, width = size_in(path)
    people = [cv2.cvtColor(cv2.resize(crop, (width, height)), cv2.COLOR_BGR2RGB) for crop in crops_of(frame)]
    fractions = np.stack(people).astype(np.float32).transpose(0, 3, 1, 2) / 255
    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32).reshape(2, 3, 1, 1)
    vectors = run(path, (fractions - mean) / std)
    np.testing.assert_allclose(vectors, by_network(network, torch.from_numpy(fractions)), atol=1e-4)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_ultralytics(
    network: Path, frame: NDArray[np.uint8], write_export: Callable[..., Path], tmp_path: Path
) -> None:
    """It enlarges the boxes, resizes without antialiasing, and does not normalize."""
    path = write_export(tmp_path / "file", network, input="fractions")
    size, people = size_in(path), []
    for crop in crops_of(frame, 1.02, 10):
        image = torch.from_numpy(crop[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
        people.append(torch.nn.functional.interpolate(image, size, mode="bilinear", align_corners=False))
    fractions = torch.cat(people)
    np.testing.assert_allclose(run(path, fractions.numpy()), by_network(network, fractions), atol=1e-4)


def test_a_file_for_the_other_tracker_is_no_use(checkpoint: Path, frame: NDArray[np.uint8], exported: Path) -> None:
    """What the tests above compare sees the difference between the inputs."""
    image = torch.from_numpy(cv2.resize(frame, (16, 32))[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    assert (run(exported, image.numpy()) * by_network(checkpoint, image)).sum() < 0.999
