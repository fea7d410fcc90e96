"""What images the weights of another project were trained on, as far as the file tells."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from modelling.backbones.pixels import Pixels
from utils.resolution import SMALLEST_SIDE

# Where Lightning keeps the settings of a run, in order of its versions.
_SETTINGS = ("hyper_parameters", "hparams")

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """What images the weights were trained on.

    Attributes:
        size: height and width in pixels.
        interpolation: of the resize.
        mean: of R, G, B in [0, 1].
        std: of R, G, B.
    """

    size: tuple[int, int] = (256, 128)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: Triple = Pixels().mean
    std: Triple = Pixels().std


def read_preprocessing(
    content: Mapping[str, Any], tensors: Mapping[str, Tensor], interpolation: Literal["bilinear", "bicubic"]
) -> Preprocessing:
    """What a file tells by its settings (centroids-reid) or its tensors (fast-reid); the usual for the rest.

    Args:
        content: of the file.
        tensors: of its network by name.
        interpolation: of the project.
    """
    mean, std = _told(content, "PIXEL_MEAN", 3, 0.0), _told(content, "PIXEL_STD", 3, 1e-6)
    if {"pixel_mean", "pixel_std"} <= tensors.keys():  # in [0, 255]
        mean, std = ((tensors[name].flatten().double() / 255).tolist() for name in ("pixel_mean", "pixel_std"))
    height, width = told_size(content) or Preprocessing().size
    return Preprocessing((height, width), interpolation, _triple(mean, Pixels().mean), _triple(std, Pixels().std))


def told_size(content: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width of test images, else of training images, by the settings in a file; None without any."""
    size = _told(content, "SIZE_TEST", 2, SMALLEST_SIDE) or _told(content, "SIZE_TRAIN", 2, SMALLEST_SIDE)
    return (int(size[0]), int(size[1])) if size else None


def _told(content: Mapping[str, Any], key: str, length: int, lowest: float) -> list[float] | None:
    """The numbers of INPUT.{key}, nested or under a dotted name; None where they are not what they should be."""
    for settings in (content[name] for name in _SETTINGS if isinstance(content.get(name), Mapping)):
        nested = settings.get("INPUT")
        value = nested.get(key) if isinstance(nested, Mapping) else settings.get(f"INPUT.{key}")
        if isinstance(value, (list, tuple)) and len(value) == length:
            numbers = [float(number) for number in value if isinstance(number, (int, float)) and number >= lowest]
            if len(numbers) == length:
                return numbers
    return None


def _triple(found: list[float] | None, usual: Triple) -> Triple:
    return (found[0], found[1], found[2]) if found else usual
