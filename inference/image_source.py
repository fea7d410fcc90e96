"""Files, PIL images and arrays as one torch data set; an unreadable file is an item, not the end."""

from collections.abc import Sequence
from os import PathLike
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from datasets.transforms import TestTransform
from inference.image_paths import ImagePaths
from utils.errors import ReidError, one_line
from utils.images import pixels_of, read_image

ImageLike = str | PathLike[str] | Image.Image | NDArray[np.uint8]
ImageSequence = Sequence[ImageLike] | NDArray[np.str_] | ImagePaths


class Decoded(NamedTuple):
    """One image, or why there is none."""

    row: int
    pixels: Tensor | None  # (3, H, W) uint8
    fault: str


class DecodedBatch(NamedTuple):
    """Images of one step.

    Attributes:
        rows: (N,) int64, their places in the source.
        pixels: (N, 3, H, W) uint8.
        faults: a message for each image that could not be read and has no row here.
    """

    rows: Tensor
    pixels: Tensor
    faults: tuple[str, ...]


class ImageSource(Dataset[Decoded]):
    """Decode and resize.

    Args:
        images: paths, PIL images or arrays.
        rows: (M,) which of them, in this order.
        transform: to the network's size.
    """

    def __init__(self, images: ImageSequence, rows: NDArray[np.int64], transform: TestTransform) -> None:
        self._images, self._rows, self._transform = images, rows, transform

    def __len__(self) -> int:
        """Number of rows asked for."""
        return len(self._rows)

    def __getitem__(self, position: int) -> Decoded:
        """One image.

        Raises:
            ReidError: if it is neither a path nor an image that could be meant.
        """
        row = int(self._rows[position])
        image = self._images[row]
        if not isinstance(image, (str, PathLike)):
            return Decoded(row, self._transform(_pixels(image)).image, "")
        try:
            return Decoded(row, self._transform(read_image(str(image))).image, "")
        except ReidError as error:
            return Decoded(row, None, str(error))


def collate(items: Sequence[Decoded]) -> DecodedBatch:
    """Stack what could be decoded."""
    good = [item for item in items if item.pixels is not None]
    pixels = [item.pixels for item in good if item.pixels is not None]
    return DecodedBatch(
        torch.tensor([item.row for item in good], dtype=torch.int64),
        torch.stack(pixels) if pixels else torch.empty(0, dtype=torch.uint8),
        tuple(item.fault for item in items if item.pixels is None),
    )


def _pixels(image: Image.Image | NDArray[np.uint8]) -> Tensor:
    """(3, H, W) uint8 RGB."""
    if isinstance(image, Image.Image):
        try:
            return pixels_of(image)
        except Exception as error:  # see utils.images
            raise ReidError(f"a PIL image must be readable, or left out, but: {one_line(error)}") from error
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f"{image.shape} {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ReidError(f"an image must be a path, a PIL image or an (H, W, 3) uint8 RGB array, got {got}")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)  # a copy: the caller's may be read-only
