"""Which images are searched for: those of a folder, one file, several files, or the paths on standard input."""

import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from inference.image_paths import ImagePaths
from inference.images import ImageFiles, list_images
from utils.errors import ReidError
from utils.files import absent_files

logger = logging.getLogger(__name__)

STANDARD_INPUT = "-"
_LISTED = 3  # files in a message


def list_queries(places: Sequence[str | Path], *, subfolders: bool = False, output: Path | None = None) -> ImageFiles:
    """The images to search for.

    Args:
        places: one folder; one image or several, whatever their names; or :data:`STANDARD_INPUT`, where a program
            writes the paths of images, one a line, or, as ``find -print0`` does, with a zero byte after each.
        subfolders: see :func:`inference.images.list_images`.
        output: see there.

    Returns:
        The images of a folder sorted by name; named ones in the order in which they are named.

    Raises:
        ReidError: if the folder or a file does not exist, or there is no image.
    """
    if [str(place) for place in places] == [STANDARD_INPUT]:
        return _files(_paths_of_program(), "standard input must name images")
    if len(places) == 1:
        return list_images(places[0], subfolders=subfolders, output=output)
    return _files(map(str, places), "query images must exist")


def _files(paths: Iterable[str], rule: str) -> ImageFiles:
    absolute = [os.path.abspath(path) for path in paths]  # noqa: PTH100 (resolve() would go to where a link points)
    if not absolute:
        raise ReidError(f"{rule}, one path a line, but it is empty")
    if absent := absent_files(absolute):
        names = ", ".join(absent[:_LISTED]) + (", ..." if len(absent) > _LISTED else "")
        raise ReidError(f"{rule}, but {len(absent)} of {len(absolute)} files do not exist: {names}; check the paths")
    return ImageFiles(ImagePaths("", np.array([os.fsencode(path) for path in absolute])), 0)


def _paths_of_program() -> list[str]:
    """The lines of standard input, whatever their encoding, without empty ones."""
    if sys.stdin is None:
        return []
    if sys.stdin.isatty():
        logger.info("type the paths of the query images, one a line; Ctrl-D ends them")
    content = sys.stdin.buffer.read()
    lines = content.split(b"\0") if b"\0" in content else content.splitlines()
    return [os.fsdecode(line) for line in lines if line.strip()]
