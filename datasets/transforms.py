"""From a decoded image to the network's input: random geometry in the workers, arithmetic on the device.

Workers hand over uint8 pixels, a quarter of the bytes of float32. The device does the floating-point work in one
batched call, in this order: lower the resolution, normalize, erase.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from datasets.colors import Colors
from datasets.erasing import NO_BOX, Eraser, draw_box
from datasets.preprocessing import Preprocessing
from utils.resolution import degrade, degrade_each

_NO_FILES: Mapping[int, Tensor] = MappingProxyType({})


class TransformedImage(NamedTuple):
    """What a worker makes of one image.

    Attributes:
        image: (3, H, W) uint8.
        erased: top, left, height, width of the box that the device erases.
        scale: random low resolution of the image in training.
        low: (3, H, W) uint8, the low-resolution file at that scale, flipped and cropped like the image; None if the
            device lowers the resolution.
        low_by_scale: scale -> (3, H, W) uint8, the low-resolution files of a test.
    """

    image: Tensor
    erased: tuple[int, int, int, int] = NO_BOX
    scale: int = 1
    low: Tensor | None = None
    low_by_scale: Mapping[int, Tensor] = _NO_FILES


@dataclass(frozen=True)
class Augmentation:
    """The random part of training images.

    Attributes:
        flip: probability of a horizontal flip.
        padding: zero border in pixels before the random crop.
        erase: probability of random erasing (Zhong et al. 2020).
        colors: probabilities of other colors.
    """

    flip: float = 0.5
    padding: int = 10
    erase: float = 0.5
    colors: Colors = field(default_factory=Colors)


class TestTransform:
    """Resize to the network's input size, antialiased.

    Args:
        preprocessing: size and interpolation.
    """

    __test__ = False  # not a test case, although pytest may think so

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._preprocessing = preprocessing

    def __call__(self, image: Tensor, files: Mapping[int, Tensor] = _NO_FILES) -> TransformedImage:
        """(3, h, w) uint8 -> (3, H, W) uint8, low-resolution files by scale too; nothing is erased."""
        low = {scale: _enlarge(small, self._preprocessing.size) for scale, small in files.items()}
        return TransformedImage(resize(image, self._preprocessing), low_by_scale=low)


class TrainTransform:
    """Resize, change colors, flip, pad and crop; choose the box and the low resolution that the device applies.

    Args:
        preprocessing: size and interpolation.
        augmentation: probabilities and padding.
        scales: each image gets one of them at random.
    """

    def __init__(
        self, preprocessing: Preprocessing, augmentation: Augmentation, scales: Sequence[int] = (1,)
    ) -> None:
        self._preprocessing, self._scales = preprocessing, scales
        self._flip, self._padding, self._erase = augmentation.flip, augmentation.padding, augmentation.erase
        self._colors = augmentation.colors.transform()

    def __call__(self, image: Tensor, files: Mapping[int, Tensor] = _NO_FILES) -> TransformedImage:
        """(3, h, w) uint8 -> (3, H, W) uint8, the box to erase and a random scale.

        Of the low-resolution files by scale, the one of the random scale remains, flipped and cropped like the image.
        """
        size = self._preprocessing.size
        wholes = [resize(image, self._preprocessing), *(_enlarge(small, size) for small in files.values())]
        if self._colors is not None:
            wholes = [*self._colors(torch.stack(wholes))]
        is_flipped = float(torch.rand(())) < self._flip
        down, right = _draw_shift(self._padding) if self._padding else (0, 0)
        image, *low = (_shifted(whole.flip(2) if is_flipped else whole, down, right) for whole in wholes)
        scale = self._scales[int(torch.randint(len(self._scales), ()))]
        low_by_scale = dict(zip(files, low, strict=True))
        box = draw_box(*size) if float(torch.rand(())) < self._erase else NO_BOX
        return TransformedImage(image, box, scale, low_by_scale.get(scale, image) if files else None)


class NetworkInput(nn.Module):
    """Turn a batch of uint8 pixels into what the network sees, on the batch's device.

    Args:
        preprocessing: normalization, low resolution and its antialiasing.
        choices: the scales that a batch may hold if each image has its own.
        layout: order of the result in memory.
        fill: of erased boxes, see :class:`datasets.erasing.Eraser`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        preprocessing: Preprocessing,
        choices: Sequence[int] = (1,),
        layout: torch.memory_format = torch.preserve_format,
        fill: str = "mean",
    ) -> None:
        super().__init__()
        self._layout = layout
        self._scale, self._antialias = preprocessing.scale, preprocessing.antialias
        self._choices = tuple(choices)
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, -1, 1, 1), persistent=False)
        self._eraser = Eraser(fill, (-self.mean / self.std).flatten())

    def forward(self, images: Tensor, scale: int | Tensor | None = None, erased: Tensor | None = None) -> Tensor:
        """Degrade, normalize, erase.

        Args:
            images: (N, 3, H, W) uint8.
            scale: of the low resolution, 1 = none; or (N,) int64, one for each image; None = that of the
                preprocessing.
            erased: (N, 4) top, left, height, width of the box to fill; None = no erasing.

        Returns:
            (N, 3, H, W) float32.
        """
        scale = self._scale if scale is None else scale
        pixels = images.to(torch.float32, memory_format=self._layout).div_(255.0)
        if isinstance(scale, int):
            pixels = degrade(pixels, scale, antialias=self._antialias)
        else:
            pixels = degrade_each(pixels, scale, self._choices, antialias=self._antialias)
        # In place, because each new tensor of this size costs more time than the arithmetic.
        if pixels.is_contiguous(memory_format=torch.channels_last):
            rows = pixels.permute(0, 2, 3, 1).flatten(2)  # (N, H, W * 3): long rows are faster than triples
            mean, std = (value.flatten().repeat(pixels.shape[3]) for value in (self.mean, self.std))
        else:
            rows, mean, std = pixels, self.mean, self.std
        rows.sub_(mean).div_(std)
        if erased is not None:
            self._eraser(pixels.permute(0, 2, 3, 1), erased)
        return pixels


def resize(image: Tensor, preprocessing: Preprocessing) -> Tensor:
    """(3, h, w) uint8 -> (3, H, W) uint8, antialiased, in the same order in memory; the image itself at that size."""
    mode = v2.InterpolationMode(preprocessing.interpolation)
    resized: Tensor = v2.functional.resize_image(image, list(preprocessing.size), mode, antialias=True)
    return resized


def _enlarge(small: Tensor, size: Sequence[int]) -> Tensor:
    """Upsample as :func:`utils.resolution.degrade` does, in float: on bytes torch uses another kernel.

    Sides that are longer than those of the input first shrink with antialiasing. The enlargement has none, because
    torch would use another kernel for it.
    """
    pixels = small.unsqueeze(0).float()
    height, width = (min(sides) for sides in zip(small.shape[-2:], size, strict=True))
    if (height, width) != tuple(small.shape[-2:]):
        pixels = F.interpolate(pixels, (height, width), mode="bicubic", antialias=True)
    pixels = F.interpolate(pixels, list(size), mode="bicubic")
    return pixels.squeeze(0).round().clamp(0, 255).to(torch.uint8)


def _draw_shift(padding: int) -> tuple[int, int]:
    """By how many pixels a random crop out of an image with a border lies lower and further right than the image."""
    down, right = torch.randint(2 * padding + 1, (2,)).tolist()
    return down - padding, right - padding


def _shifted(image: Tensor, down: int, right: int) -> Tensor:
    """The crop (3, H, W) of an image that lies so much lower and further right; zero outside the image."""
    if down == right == 0:
        return image
    height, width = image.shape[-2:]
    crop = torch.zeros_like(image)
    rows, columns = height - abs(down), width - abs(right)
    if rows > 0 and columns > 0:
        y, x = max(down, 0), max(right, 0)
        crop[:, y - down : y - down + rows, x - right : x - right + columns] = image[:, y : y + rows, x : x + columns]
    return crop
