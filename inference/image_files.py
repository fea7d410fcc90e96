"""The images of a folder, without junk."""

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.readers.market import labels_of
from datasets.sample import AMBIGUOUS_ID, JUNK_ID
from inference.image_paths import ImagePaths, sorted_names
from inference.results import PICTURES
from utils.errors import ReidError
from utils.images import IMAGE_SUFFIXES, is_image

logger = logging.getLogger(__name__)


class ImageFiles(NamedTuple):
    """Images found.

    Attributes:
        paths: N absolute ones, sorted by their names in the folder.
        junk: number of files left out because their names say identity -1 or -2.
    """

    paths: ImagePaths
    junk: int


def list_images(folder: str | Path, *, subfolders: bool = False, output: Path | None = None) -> ImageFiles:
    """The images of a folder by their endings, in an order that does not depend on the file system.

    Junk (identity -1) and ambiguous persons (-2) of the Market-1501 pattern are left out; names without an
    identity stay. So are hidden files.

    Args:
        folder: where they lie.
        subfolders: also those in its folders, however deep; else the folder alone.
        output: where results lie: our own pictures are no images to embed.

    Raises:
        ReidError: if the folder does not exist or holds no image.
    """
    root = os.path.abspath(folder)  # noqa: PTH100 (resolve() would go to where a link points)
    if not os.path.isdir(root):  # noqa: PTH112
        raise ReidError(f"folder of images {folder} must exist, but does not; set it (DATASETS.ROOT_DIR)")
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


def _names(root: str, subfolders: bool, output: Path | None) -> Iterator[str]:
    """Images relative to ``root``."""
    if not subfolders:
        yield from (entry.name for entry in os.scandir(root) if is_image(entry.name) and entry.is_file())
        return
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if not _holds_results(folder, name, output)]
        within = os.path.relpath(folder, root)
        yield from (os.path.normpath(os.path.join(within, name)) for name in files if is_image(name))  # noqa: PTH118


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
