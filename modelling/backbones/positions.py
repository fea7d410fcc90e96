"""Position embeddings of vision transformers: which grid they belong to, and another one made of them."""

from math import isqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.errors import ReidError

PATCH = 16
"""Pixels, a side of the square that becomes a token."""

_SIZES = ((256, 128), (384, 128), (256, 256), (224, 224), (384, 192), (384, 384), (224, 112), (320, 128))
_STRIDES = (16, 12, 11, 14)  # of the published weights
_RATIOS = (2, 3, 1)  # of height to width


def grid_of(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Rows and columns of the patches of an image.

    Args:
        size: height and width, pixels.
        stride: pixels from one patch to the next.
    """
    return (size[0] - PATCH) // stride + 1, (size[1] - PATCH) // stride + 1


def size_and_stride(num_patches: int) -> tuple[tuple[int, int], int] | None:
    """The usual input size and stride with this number of patches; None if there is none.

    Beside sizes of published weights, images twice or three times as high as wide and squares are usual.
    """
    for stride in _STRIDES:
        for size in _SIZES:
            rows, columns = grid_of(size, stride)
            if rows * columns == num_patches:
                return size, stride
    for ratio in _RATIOS:
        columns = isqrt(max(num_patches, 0) // ratio)
        if columns and ratio * columns**2 == num_patches:
            return (ratio * columns * PATCH, columns * PATCH), PATCH
    return None


def resized(positions: Tensor, num_first: int, grid: tuple[int, int]) -> Tensor:
    """Position embeddings for another grid, interpolated bilinearly.

    Args:
        positions: (1, T, C), those of tokens that are no patches first.
        num_first: number of these tokens, which keep their embeddings.
        grid: rows and columns of the patches.

    Raises:
        ReidError: if the number of embeddings differs from that of the grid and is not that of a usual input.
    """
    num_patches = positions.shape[1] - num_first
    if num_patches == grid[0] * grid[1]:
        return positions
    usual = size_and_stride(num_patches)
    if usual is None:
        raise ReidError(
            f"the file has position embeddings of {num_patches} patches, which belong to no usual input size; set "
            "INPUT.SIZE_TRAIN, INPUT.SIZE_TEST and MODEL.PATCH_STRIDE to those of its training"
        )
    rows, columns = grid_of(*usual)
    old = positions[:, num_first:].reshape(1, rows, columns, -1).permute(0, 3, 1, 2)
    new = F.interpolate(old.float(), size=grid, mode="bilinear").flatten(2).transpose(1, 2)
    return torch.cat([positions[:, :num_first], new.to(positions.dtype)], dim=1)
