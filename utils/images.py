"""Decode image files and Pillow images to uint8 RGB tensors; errors name the file."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from utils.errors import ReidError, one_line

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
_ENDINGS = tuple(IMAGE_SUFFIXES)


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image; hidden files, such as the ``._*`` of macOS, are none."""
    return name.lower().endswith(_ENDINGS) and not name.startswith(".")


def read_image(path: str | Path) -> Tensor:
    """Decode an image file.

    Args:
        path: a file in any format that Pillow knows, of any color mode.

    Returns:
        (3, H, W) uint8 RGB, upright (EXIF orientation applied); 16 bits are scaled to 8.

    Raises:
        ReidError: if the file is missing, damaged or not an image; the message holds its name.
    """
    try:
        with Image.open(path) as image:
            return pixels_of(image)
    except Exception as error:  # a damaged file makes Pillow's plugins raise anything: TypeError, struct.error, ...
        reason = "no such file" if isinstance(error, FileNotFoundError) else one_line(error)
        raise ReidError(f"cannot read image {path}: {reason}") from error


def pixels_of(image: Image.Image) -> Tensor:
    """The pixels of an image that Pillow has opened or made.

    Args:
        image: of any color mode whose values have a range.

    Returns:
        As :func:`read_image`; what is transparent shows its color.

    Raises:
        ReidError: for the modes I and F, whose values have no agreed range; a damaged image raises what Pillow does.
    """
    if image.mode in ("I", "F"):
        raise ReidError(f"its pixels must have 8 or 16 bits a channel, got mode {image.mode}; convert them")
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):  # Pillow would clip, not scale, to 8 bits
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    return torch.from_numpy(np.array(upright.convert("RGB"))).permute(2, 0, 1)
