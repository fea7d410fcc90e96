"""From a decoded image to the network's input: random geometry in the workers, arithmetic on the device.

Workers hand over uint8 pixels, a quarter of the bytes of float32. The device does in one batched call
what needs floating point, in this order: lower the resolution, normalise, erase.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from datasets.sample import DRAWN
from utils.resolution import degrade, degrade_each

NO_BOX = (0, 0, 0, 0)
_NOTHING: Mapping[int, Tensor] = MappingProxyType({})


class Transformed(NamedTuple):
    """What a worker makes of one image.

    Attributes:
        image: (3, H, W) uint8.
        erased: top, left, height, width of the box that the device erases.
        scale: of the low resolution that the device gives it where a view asks for it.
        low: scale, or DRAWN -> its low-resolution file, transformed alike, (3, H, W) uint8; it takes the
            place of what the device would make.
    """

    image: Tensor
    erased: tuple[int, int, int, int] = NO_BOX
    scale: int = 1
    low: Mapping[int, Tensor] = _NOTHING


@dataclass(frozen=True)
class Augmentation:
    """The random part of training images.

    Attributes:
        flip: probability of a horizontal flip.
        padding: zero border in pixels before the random crop.
        erase: probability of random erasing (Zhong et al. 2020).
    """

    flip: float = 0.5
    padding: int = 10
    erase: float = 0.5


class TestTransform:
    """Resize to the network's input size, antialiased.

    Args:
        size: height and width in pixels.
        interpolation: ``bilinear`` or ``bicubic``.
    """

    __test__ = False  # not a test case, whatever pytest makes of its name

    def __init__(self, size: Sequence[int], interpolation: str = "bilinear") -> None:
        self._resize, self._size = _resize(size, interpolation), size

    def __call__(self, image: Tensor, low: Mapping[int, Tensor] = _NOTHING) -> Transformed:
        """(3, h, w) uint8 -> (3, H, W) uint8, low-resolution files by scale too; nothing is erased."""
        restored = {scale: _restore(small, self._size) for scale, small in low.items()}
        return Transformed(self._resize(image), low=restored)


class TrainTransform:
    """Resize, flip, pad and crop; choose the box and the low resolution that the device applies.

    Args:
        size: height and width in pixels.
        augmentation: probabilities and padding.
        scales: of which one is drawn for each image.
        interpolation: of the resize.
    """

    def __init__(
        self,
        size: Sequence[int],
        augmentation: Augmentation,
        scales: Sequence[int] = (1,),
        interpolation: str = "bilinear",
    ) -> None:
        self._scales = scales
        crop = [v2.Pad(augmentation.padding), v2.RandomCrop(list(size))] if augmentation.padding else []
        self._resize, self._size = _resize(size, interpolation), size
        self._geometry = v2.Compose([v2.RandomHorizontalFlip(augmentation.flip), *crop])
        self._erase = augmentation.erase
        self._eraser = v2.RandomErasing(p=1.0, scale=(0.02, 0.4), ratio=(0.3, 1 / 0.3))

    def __call__(self, image: Tensor, low: Mapping[int, Tensor] = _NOTHING) -> Transformed:
        """(3, h, w) uint8 -> (3, H, W) uint8, the box to erase and the scale drawn.

        Of the low-resolution files the one of the drawn scale stays, flipped and cropped as the image is.
        """
        together = torch.stack([self._resize(image), *(_restore(small, self._size) for small in low.values())])
        image, *restored = self._geometry(together).unbind()
        scale = self._scales[int(torch.randint(len(self._scales), ()))]
        drawn = {DRAWN: dict(zip(low, restored, strict=True)).get(scale, image)} if low else _NOTHING
        return Transformed(image, self._box(image), scale, drawn)

    def _box(self, image: Tensor) -> tuple[int, int, int, int]:
        if float(torch.rand(())) >= self._erase:
            return NO_BOX
        box = self._eraser.make_params([image])
        if box["v"] is None:  # no box of the drawn shapes fitted
            return NO_BOX
        return box["i"], box["j"], box["h"], box["w"]


class NetworkInput(nn.Module):
    """Turn a batch of uint8 pixels into what the network sees, on the batch's device.

    Args:
        mean: of R, G, B in [0, 1].
        std: of R, G, B.
        antialias: of the downsampling, see :func:`utils.resolution.degrade`.
        choices: the scales that a batch may hold where each image has its own.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        antialias: bool = True,
        choices: Sequence[int] = (1,),
    ) -> None:
        super().__init__()
        self._choices = tuple(choices)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        self._antialias = antialias

    def forward(self, images: Tensor, scale: int | Tensor = 1, erased: Tensor | None = None) -> Tensor:
        """Degrade, normalise, erase.

        Args:
            images: (N, 3, H, W) uint8.
            scale: of the low resolution, 1 = none; or (N,) int64, one for each image.
            erased: (N, 4) top, left, height, width of the box that becomes zero, the mean after
                normalisation; None = no erasing.

        Returns:
            (N, 3, H, W) float32.
        """
        pixels = images.float().div(255.0)
        if isinstance(scale, int):
            pixels = degrade(pixels, scale, antialias=self._antialias)
        else:
            pixels = degrade_each(pixels, scale, self._choices, antialias=self._antialias)
        normalised = (pixels - self.mean) / self.std
        return normalised if erased is None else normalised.masked_fill(_inside(erased, images), 0.0)


def _resize(size: Sequence[int], interpolation: str) -> v2.Resize:
    return v2.Resize(list(size), v2.InterpolationMode(interpolation), antialias=True)


def _restore(small: Tensor, size: Sequence[int]) -> Tensor:
    """Upsample as :func:`utils.resolution.degrade` does; on bytes torch's kernel would be another one.

    Sides that are longer than the input's shrink first, low-passed; enlarging, torch's antialiased kernel would be
    another one too.
    """
    pixels = small.unsqueeze(0).float()
    height, width = (min(sides) for sides in zip(small.shape[-2:], size, strict=True))
    if (height, width) != tuple(small.shape[-2:]):
        pixels = F.interpolate(pixels, (height, width), mode="bicubic", antialias=True)
    pixels = F.interpolate(pixels, list(size), mode="bicubic")
    return pixels.squeeze(0).round().clamp(0, 255).to(torch.uint8)


def _inside(boxes: Tensor, images: Tensor) -> Tensor:
    """(N, 1, H, W) bool: which pixels lie in their image's box."""
    top, left, height, width = boxes[:, :, None].unbind(1)
    rows = torch.arange(images.shape[-2], device=images.device)
    columns = torch.arange(images.shape[-1], device=images.device)
    in_rows = (rows >= top) & (rows < top + height)
    in_columns = (columns >= left) & (columns < left + width)
    return (in_rows[:, :, None] & in_columns[:, None, :]).unsqueeze(1)
