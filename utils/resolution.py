"""Low resolution: images are downsampled and upsampled to their size again."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.errors import ReidError

SMALLEST_SIDE = 8  # in pixels; a smaller image hardly shows a person


def low_resolution_size(height: int, width: int, scale: int) -> tuple[int, int]:
    """Height and width in pixels after downsampling by ``scale``, rounded, at least one pixel each."""
    return max(1, round(height / scale)), max(1, round(width / scale))


def degrade(images: Tensor, scale: int, *, antialias: bool = True) -> Tensor:
    """Bicubic-downsample images by ``scale`` and upsample them to their size again, in one batched call.

    Args:
        images: (N, 3, H, W) floating point in [0, 1].
        scale: 1 returns the images unchanged.
        antialias: low-pass before downsampling (as a camera does); False keeps every ``scale``-th sample.

    Returns:
        (N, 3, H, W), clipped to [0, 1]: bicubic interpolation overshoots at edges, a file cannot.

    Raises:
        ReidError: if ``scale`` is below 1.
    """
    if scale < 1:
        raise ReidError(f"scale must be 1 or more, got {scale}")
    if scale == 1:
        return images
    height, width = images.shape[-2:]
    small = F.interpolate(
        images, low_resolution_size(height, width, scale), mode="bicubic", antialias=antialias
    ).clamp(0.0, 1.0)
    upsampled = F.interpolate(small, (height, width), mode="bicubic", antialias=False)
    return torch.clamp(upsampled, 0.0, 1.0)


def degrade_each(images: Tensor, scales: Tensor, choices: Sequence[int], *, antialias: bool = True) -> Tensor:
    """:func:`degrade` with a scale of its own for each image.

    It degrades all images once by every choice and takes the right result, so the host never waits for the scales. A
    single choice needs no look at them.

    Args:
        images: (N, 3, H, W) floating point in [0, 1].
        scales: (N,) integers, each one of ``choices``.
        choices: the scales that occur.
        antialias: see :func:`degrade`.

    Returns:
        (N, 3, H, W).
    """
    if len(choices) == 1:
        return degrade(images, choices[0], antialias=antialias)
    result = images
    for choice in choices:
        if choice > 1:
            rows = (scales == choice).view(-1, 1, 1, 1)
            result = torch.where(rows, degrade(images, choice, antialias=antialias), result)
    return result
