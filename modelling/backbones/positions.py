"""Position embeddings of image patches: the grid on which they lie, and their values on another grid."""

from math import isqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.errors import ReidError

# Heights and widths at which the field's networks are trained, the usual ones first, and distances between patches.
_SIZES = (
    *((256, 128), (384, 128), (256, 256), (224, 224), (384, 192), (384, 384)),
    *((320, 160), (320, 128), (320, 320), (288, 144), (128, 64)),
)
_STRIDES = (16, 12, 11)

Grid = tuple[int, int]
"""Rows and columns of patches."""


def patch_grid(size: tuple[int, int], patch: int, stride: int) -> Grid:
    """The patches of an image.

    Args:
        size: height and width of the image in pixels.
        patch: side of a patch in pixels.
        stride: pixels from a patch to the next.

    Raises:
        ReidError: if the image is smaller than a patch.
    """
    if min(size) < patch:
        raise ReidError(f"INPUT.SIZE_TEST must be at least {patch} x {patch}, the size of a patch, got {list(size)}")
    return (size[0] - patch) // stride + 1, (size[1] - patch) // stride + 1


def usual_input(count: int, patch: int = 16, strides: tuple[int, ...] = _STRIDES) -> tuple[tuple[int, int], int]:
    """The image size and the stride of a network with so many patches; no two usual ones have the same number.

    Args:
        count: of patches.
        patch: side of a patch in pixels.
        strides: that the network may have.

    Raises:
        ReidError: if no usual size has so many.
    """
    for stride in strides:
        for size in _SIZES:
            rows, columns = patch_grid(size, patch, stride)
            if rows * columns == count:
                return size, stride
    sizes = ", ".join(f"{height} x {width}" for height, width in _SIZES)
    raise ReidError(f"the weights must have a position embedding for each patch at {sizes}, got {count} patches")


def fit_positions(positions: Tensor, grid: Grid) -> Tensor:
    """Position embeddings for another grid, bilinear between those of the file.

    Args:
        positions: (1 + n, C), that of the class token first; a file that is no usual size must be square.
        grid: of the patches in the network.

    Returns:
        (1 + rows * columns, C) float32; the file's own where the numbers of patches agree.

    Raises:
        ReidError: if the grid of the file is unknown.
    """
    count = len(positions) - 1
    if count == grid[0] * grid[1]:
        return positions
    rows = columns = isqrt(max(count, 0))
    if rows == 0 or rows * columns != count:
        size, stride = usual_input(count)
        rows, columns = patch_grid(size, 16, stride)
    token, patches = positions[:1].float(), positions[1:].float()
    resized = F.interpolate(patches.T.reshape(1, -1, rows, columns), grid, mode="bilinear")
    return torch.cat([token, resized.flatten(2)[0].T])
