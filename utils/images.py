"""Decode image files and Pillow images to uint8 RGB tensors; errors name the file."""

import logging
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from warnings import catch_warnings, simplefilter

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, features

from utils.errors import ReidError, one_line

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

_ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}  # raster format of photos, by Pillow's name -> the endings of its files
if "avif" in features.modules and features.check_module("avif"):  # from Pillow 11.3 on, where it was built with it
    _ENDINGS["AVIF"] = (".avif",)

FORMATS = tuple(_ENDINGS)
"""Pillow's names of the formats that are opened, whatever the ending of the file says.

Pillow knows more. Some are drawn by other programs (EPS by Ghostscript), and no photo of people comes in them.
"""
MOST_PIXELS = 2**26
"""Of an image in memory, where each takes up to 14 bytes while it is decoded."""
IMAGE_SUFFIXES = frozenset(ending for endings in _ENDINGS.values() for ending in endings)
"""A folder's files with these endings, in upper or lower case, are its images."""
_SUFFIXES = tuple(IMAGE_SUFFIXES)
_OF_SYSTEMS = ("thumbs.db", "desktop.ini")  # files that Windows leaves in folders of images
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # Windows has no pipes among its files


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image; hidden files, such as the ``._*`` of macOS, are not."""
    return name.lower().endswith(_SUFFIXES) and not name.startswith(".")


def other_ending(name: str) -> str:
    """The ending of a file's name that is no image's, in lower case; empty for images and hidden files."""
    if is_image(name) or name.startswith(".") or name.lower() in _OF_SYSTEMS:
        return ""
    return os.path.splitext(name)[1].lower() or "no ending"  # noqa: PTH122 (a Path per name is slow)


def warn_left_out(endings: Mapping[str, int], folder: str | Path) -> None:
    """Log how many files are no images to us by their endings, so that none vanishes without a word.

    Args:
        endings: by :func:`other_ending`, and how many files have each; the empty one does not count.
        folder: where the files lie.
    """
    counts = Counter({ending: count for ending, count in endings.items() if ending})
    if counts:
        text = ", ".join(f"{count} {ending}" for ending, count in counts.most_common(10))
        logger.warning(
            "%d files of %s are left out because their endings are no image's: %s; convert images to .jpg or .png",
            *(counts.total(), folder, text),
        )


@contextmanager
def open_image(source: str | Path | BinaryIO, *, shrink: bool = False) -> Iterator[Image.Image]:
    """Open an image of one of :data:`FORMATS`; a pipe named like an image is refused and not waited for.

    Args:
        source: a file's path, or an open file, which stays open.
        shrink: decode a JPEG of more than :data:`MOST_PIXELS` at half its size; other such images are refused.

    Raises:
        OSError: if there is no such file, or none that can be read; a damaged file makes Pillow raise anything.
    """
    with _regular_file(source) if isinstance(source, (str, Path)) else nullcontext(source) as file:
        try:
            with catch_warnings():  # of what we refuse or shrink
                simplefilter("ignore", Image.DecompressionBombWarning)
                image = Image.open(file, formats=FORMATS)  # noqa: TID251 (this is the one place)
        except UnidentifiedImageError as error:
            raise OSError(f"its content is no image in one of the formats {', '.join(FORMATS)}") from error
        except Image.DecompressionBombError as error:
            raise OSError(f"{one_line(error)} Scale it down") from error
        with image:
            if shrink and image.width * image.height > MOST_PIXELS:
                image.draft(None, (image.width // 2, image.height // 2))  # of a JPEG; others stay as they are
            if image.width * image.height > MOST_PIXELS:
                raise OSError(
                    f"it must have at most {MOST_PIXELS} pixels, got {image.width} x {image.height}; scale it down"
                )
            yield image


@contextmanager
def _regular_file(path: str | Path) -> Iterator[BinaryIO]:
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _NO_WAIT)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("it is a pipe or a device, not a file")
        yield file


def read_image(path: str | Path) -> "Tensor":
    """Decode an image file.

    Args:
        path: a file in one of :data:`FORMATS`, of any color mode.

    Returns:
        (3, H, W) uint8 RGB, upright (EXIF orientation applied); 16 bits are scaled to 8.

    Raises:
        ReidError: if the file is missing, damaged or not an image; the message holds its name.
    """
    try:
        with open_image(path, shrink=True) as image:
            return pixels_of(image)
    except Exception as error:  # a damaged file makes Pillow's plugins raise anything: TypeError, struct.error, ...
        reason = "no such file" if isinstance(error, FileNotFoundError) else one_line(error)
        raise ReidError(f"cannot read image {path}: {reason}") from error


def pixels_of(image: Image.Image) -> "Tensor":
    """The pixels of an image that Pillow has opened or made.

    Args:
        image: of any color mode whose values have a range.

    Returns:
        As :func:`read_image`; transparent pixels show their color.

    Raises:
        ReidError: for the modes I and F, whose values have no agreed range; a damaged image raises what Pillow does.
    """
    if image.mode in ("I", "F"):
        raise ReidError(f"its pixels must have 8 or 16 bits a channel, got mode {image.mode}; convert them")
    # Without an orientation Pillow would copy the image, which costs half as much as decoding it.
    upright = ImageOps.exif_transpose(image) if image.getexif().get(ExifTags.Base.Orientation, 1) != 1 else image
    if upright.mode.startswith("I;16"):  # Pillow would clip, not scale, to 8 bits
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    colors = upright if upright.mode == "RGB" else upright.convert("RGB")  # it would copy
    import torch  # here: what only lists files or reads their headers starts seconds sooner

    return torch.from_numpy(np.array(colors)).permute(2, 0, 1)
