"""What may be embedded: files, folders, PIL images and arrays, and their torch data set.

An image that cannot be read is an item of the data set that says why, not the end of the work.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from datasets.readers.market import labels_of
from datasets.sample import AMBIGUOUS_ID, JUNK_ID
from datasets.transforms import TestTransform
from inference.gallery.store import PICTURES
from inference.image_paths import ImagePaths, sorted_names
from utils.errors import ReidError, one_line
from utils.images import IMAGE_SUFFIXES, is_image, other_ending, pixels_of, read_image, warn_left_out

logger = logging.getLogger(__name__)

ImageLike = str | PathLike[str] | Image.Image | NDArray[np.uint8]
ImageSequence = Sequence[ImageLike] | NDArray[np.str_] | ImagePaths
Images = ImageLike | ImageSequence


class ImageFiles(NamedTuple):
    """The images of a folder.

    Attributes:
        paths: N absolute ones, sorted by their names in the folder.
        junk: number of files left out because their names say identity -1 or -2.
    """

    paths: ImagePaths
    junk: int


def list_images(folder: str | Path, *, subfolders: bool = False, output: Path | None = None) -> ImageFiles:
    """The images of a folder by their endings, in an order that does not depend on the file system; or one image.

    Junk (identity -1) and ambiguous persons (-2) of the Market-1501 pattern are left out; names without an
    identity stay. Hidden files are left out too. A warning counts files of other endings.

    Args:
        folder: where they lie; or the file of one image, whatever its name.
        subfolders: also those in its folders, however deep; else the folder alone.
        output: where results lie: our own pictures are no images to embed.

    Raises:
        ReidError: if the folder does not exist or holds no image.
    """
    root = os.path.abspath(folder)  # noqa: PTH100 (resolve() would go to where a link points)
    if not os.path.exists(root):  # noqa: PTH110
        raise ReidError(
            f"folder of images {folder} must exist, but does not; set it, or an image (DATASETS.ROOT_DIR)"
        )
    if not os.path.isdir(root):  # noqa: PTH112
        parent, name = os.path.split(root)
        return ImageFiles(ImagePaths(parent, sorted_names([name])), 0)
    paths = ImagePaths(root, sorted_names(_names(root, subfolders, output)))
    if not len(paths):
        hint = (
            "; images in its folders count with --images_in_subfolders (in Python: subfolders=True)"
            if not subfolders
            else ""
        )
        raise ReidError(f"folder {folder} must hold images ({', '.join(sorted(IMAGE_SUFFIXES))}), but has none{hint}")
    junk = np.isin(labels_of(paths)[0], (JUNK_ID, AMBIGUOUS_ID))
    if junk.all():
        raise ReidError(f"folder {folder} must hold images that are no junk, but all {len(paths)} are -1 or -2")
    return ImageFiles(paths.without(junk), int(junk.sum()))


def image_sequence(images: Images, *, subfolders: bool = False) -> ImageSequence:
    """One image, a folder or a sequence as something with a length and places.

    Args:
        images: to embed.
        subfolders: of a folder, the images in its folders too.

    Raises:
        ReidError: for a path that does not exist, an empty folder, or something that is no sequence.
    """
    if isinstance(images, (str, os.PathLike)):
        if os.path.isdir(images):  # noqa: PTH112 (any path-like)
            return list_images(os.fspath(images), subfolders=subfolders).paths
        if not os.path.exists(images):  # noqa: PTH110
            raise ReidError(
                f"images must be a folder, a file or a sequence, but {images} does not exist; check the path"
            )
        return [images]
    if isinstance(images, Image.Image):
        return [images]
    if isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim < 4:
        return [np.asarray(images, np.uint8)]
    if not (hasattr(images, "__len__") and hasattr(images, "__getitem__")) or isinstance(images, Mapping):
        raise ReidError(
            f"images must be a sequence of paths, PIL images or arrays, got a {type(images).__name__}; use list()"
        )
    return cast(ImageSequence, images)


class DecodedImage(NamedTuple):
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


class ImageSource(Dataset[DecodedImage]):
    """Decode and resize.

    Args:
        images: paths, PIL images or arrays.
        rows: (M,) which of them, in this order.
        transform: to the network's size.
    """

    def __init__(self, images: ImageSequence, rows: NDArray[np.int64], transform: TestTransform) -> None:
        self._images, self._rows, self._transform = images, rows, transform

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def __getitem__(self, position: int) -> DecodedImage:
        """One image.

        Raises:
            ReidError: if it is neither a path nor an image that could be meant.
        """
        row = int(self._rows[position])
        image = self._images[row]
        if not isinstance(image, (str, PathLike)):
            pixels = _pixels(image)
            if not pixels.numel():
                return DecodedImage(row, None, f"image {row} is empty: {pixels.shape[1]} x {pixels.shape[2]} pixels")
            return DecodedImage(row, self._transform(pixels).image, "")
        try:
            return DecodedImage(row, self._transform(read_image(str(image))).image, "")
        except ReidError as error:
            return DecodedImage(row, None, str(error))


def collate(items: Sequence[DecodedImage]) -> DecodedBatch:
    """Stack what could be decoded."""
    good = [item for item in items if item.pixels is not None]
    pixels = [item.pixels for item in good if item.pixels is not None]
    return DecodedBatch(
        torch.tensor([item.row for item in good], dtype=torch.int64),
        torch.stack(pixels) if pixels else torch.empty(0, dtype=torch.uint8),
        tuple(item.fault for item in items if item.pixels is None),
    )


def _names(root: str, subfolders: bool, output: Path | None) -> Iterator[str]:
    """Images relative to ``root``."""
    endings, folders = Counter[str](), [""]
    while folders:
        within = folders.pop()
        folder = os.path.join(root, within)  # noqa: PTH118 (text, not a Path)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    name = os.path.join(within, entry.name)  # noqa: PTH118
                    if entry.is_dir(follow_symlinks=False):
                        folders += [name] if subfolders and not _holds_results(folder, entry.name, output) else []
                    elif is_image(entry.name):
                        yield name
                    else:
                        endings[other_ending(entry.name)] += 1
        except OSError as error:
            logger.warning("%s cannot be read, its images are left out: %s", folder, error.strerror)
    warn_left_out(endings, root)


def _holds_results(folder: str, name: str, output: Path | None) -> bool:
    """Whether folder/name is OUTPUT_DIR, or what lies in an OUTPUT_DIR that is the folder of the images itself."""
    if output is None or not output.is_dir():
        return False
    path = Path(folder, name)
    a_result = name == PICTURES or re.fullmatch(r"earlier_\d+", name) is not None
    ours = path.samefile(output) or (a_result and path.parent.samefile(output))
    if ours:
        logger.info("%s holds results and is left out", path)
    return ours


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
