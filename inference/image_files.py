"""The images of a folder, without junk."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.market_layout import IMAGE_SUFFIXES
from datasets.sample import AMBIGUOUS_ID, JUNK_ID
from inference.store import labels_of
from utils.errors import ReidError


class ImageFiles(NamedTuple):
    """Images found.

    Attributes:
        paths: (N,) absolute, sorted by their names in the folder.
        junk: number of files left out because their names say identity -1 or -2.
    """

    paths: NDArray[np.str_]
    junk: int


def list_images(folder: str | Path, *, subfolders: bool = False) -> ImageFiles:
    """The images of a folder by their endings, in an order that does not depend on the file system.

    Junk (identity -1) and ambiguous persons (-2) of the Market-1501 pattern are left out; names without an
    identity stay.

    Args:
        folder: where they lie.
        subfolders: also those in its folders, however deep; else the folder alone.

    Raises:
        ReidError: if the folder does not exist or holds no image.
    """
    root = os.path.abspath(folder)  # noqa: PTH100 (resolve() would go to where a link points)
    if not os.path.isdir(root):  # noqa: PTH112
        raise ReidError(f"folder of images {folder} must exist, but does not; set it (DATASETS.ROOT_DIR)")
    names = sorted(name for name in _names(root, subfolders) if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES)  # noqa: PTH122
    if not names:
        hint = "; images in its folders count with --images_in_subfolders" if not subfolders else ""
        raise ReidError(f"folder {folder} must hold images ({', '.join(sorted(IMAGE_SUFFIXES))}), but has none{hint}")
    paths = np.array([os.path.join(root, name) for name in names])  # noqa: PTH118 (a Path per name is slow)
    person_ids, _ = labels_of(names)
    kept = ~np.isin(person_ids, (JUNK_ID, AMBIGUOUS_ID))
    if not kept.any():
        raise ReidError(f"folder {folder} must hold images that are no junk, but all {len(names)} are -1 or -2")
    return ImageFiles(paths[kept], int(len(kept) - kept.sum()))


def _names(root: str, subfolders: bool) -> Iterator[str]:
    """Files relative to ``root``."""
    if not subfolders:
        yield from (entry.name for entry in os.scandir(root) if entry.is_file())
        return
    for folder, _, files in os.walk(root):
        within = os.path.relpath(folder, root)
        yield from (os.path.normpath(os.path.join(within, name)) for name in files)  # noqa: PTH118
