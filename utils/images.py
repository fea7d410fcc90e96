"""Reading an image file as a tensor, with the file's name in every error."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from utils.errors import ReidError


def read_image(path: str | Path) -> Tensor:
    """Decode an image file.

    Args:
        path: a file in any format that Pillow knows, of any colour mode.

    Returns:
        (3, H, W) uint8 RGB, upright (EXIF orientation applied); 16 bits are scaled to 8.

    Raises:
        ReidError: if the file is missing, damaged or not an image; the message holds its name.
    """
    try:
        with Image.open(path) as image:
            if image.mode in ("I", "F"):
                raise ValueError(f"its pixels are of mode {image.mode}; save it with 8 or 16 bits a channel")
            if image.mode.startswith("I;16"):  # Pillow would clip, not scale, to 8 bits
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            pixels = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception as error:  # a damaged file makes Pillow's plugins raise anything: TypeError, struct.error, ...
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error) or type(error).__name__
        raise ReidError(f"cannot read image {path}: {' '.join(reason.split())}") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)
