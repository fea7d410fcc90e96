"""The files of the PRW release v16.04.20: lists of frames, annotations, queries."""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.io import loadmat

from datasets.low_resolution import read_size
from datasets.sample import DISTRACTOR_ID
from utils.errors import ReidError, one_line

_PARTS = ("frames", "annotations", "frame_train.mat", "frame_test.mat", "query_info.txt")
_BOX_VARIABLES = ("box_new", "anno_file", "anno_previous")  # an annotation file has one of them
_FRAME_NAME = re.compile(r"c\d+s\d+_\d+")


class Person(NamedTuple):
    """One annotated box of a frame."""

    person_id: int  # 0 where the release has none (-2)
    row: int  # counts the boxes of the frame from 1; 0 for a query
    corner: tuple[float, float]  # left, top in pixels
    size: tuple[float, float]  # width, height in pixels


class AnnotatedFrame(NamedTuple):
    """A frame's height and width in pixels, and its boxes."""

    size: tuple[int, int]
    people: tuple[Person, ...]


def check_release(raw: Path) -> None:
    """Check that a folder is the release.

    Raises:
        ReidError: if a file or folder is missing.
    """
    if absent := [part for part in _PARTS if not ((raw / part).is_file() or (raw / part).is_dir())]:
        raise ReidError(
            f"RAW must be the folder of PRW-v16.04.20 with {', '.join(_PARTS)}, but {raw} has no {', '.join(absent)}"
        )


def frame_file(raw: Path, name: str) -> Path:
    """The image of a frame such as ``c1s1_000151``."""
    return raw / "frames" / f"{name}.jpg"


def read_frame_names(path: Path, variable: str) -> list[str]:
    """The frames of a list (``frame_train.mat``), without their ending.

    Raises:
        ReidError: if the list cannot be read.
    """
    try:
        content = loadmat(path)[variable].ravel()
        # A cell array of texts is read as nested object arrays, a matrix of characters as texts.
        names = [str(np.ravel(cell)[0]).strip().removesuffix(".jpg") for cell in content]
    except Exception as error:  # scipy may raise anything: ValueError, KeyError, TypeError, zlib.error
        raise ReidError(
            f"{path} must hold the list {variable}, but {one_line(error)}; unpack the release again"
        ) from error
    if odd := [name for name in names if not _FRAME_NAME.fullmatch(name)]:
        raise ReidError(f"{path} must list frames like c1s1_000151.jpg, got {odd[0]!r}; unpack the release again")
    return names


def read_frame(name: str, raw: Path) -> AnnotatedFrame | str:
    """Size and boxes of a frame, or a text that says what is wrong with its files."""
    size = read_size(frame_file(raw, name))
    if isinstance(size, str):
        return size
    path = raw / "annotations" / f"{name}.jpg.mat"
    if not path.is_file():  # scipy would look for another name and report that
        return f"cannot read annotation {path}: no such file"
    try:
        rows = _boxes(loadmat(path))
    except Exception as error:  # scipy may raise anything
        return f"cannot read annotation {path}: {one_line(error)}"
    return AnnotatedFrame(size, tuple(_person(row, *values) for row, values in enumerate(rows, start=1)))


def _person(row: int, person: float, x: float, y: float, w: float, h: float) -> Person:
    return Person(max(int(person), DISTRACTOR_ID), row, (x, y), (w, h))


def _boxes(content: Mapping[str, Any]) -> list[list[float]]:
    """Rows of identity, left, top, width, height."""
    name = next((name for name in _BOX_VARIABLES if name in content), None)
    if name is None:
        raise ValueError(f"it has none of the variables {', '.join(_BOX_VARIABLES)}")
    rows: list[list[float]] = _check_boxes(content[name], name).tolist() if np.size(content[name]) else []
    return rows


def _check_boxes(rows: ArrayLike, name: str) -> np.ndarray:
    boxes = np.asarray(rows, dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 5 or not np.isfinite(boxes).all() or (boxes[:, 0] % 1).any():
        raise ValueError(f"{name} must have rows of a whole identity, x, y, w, h, but is {boxes.tolist()}")
    return boxes


def read_queries(path: Path) -> dict[str, list[Person]]:
    """The boxes of ``query_info.txt``, by frame.

    Raises:
        ReidError: if a line cannot be read.
    """
    queries: dict[str, list[Person]] = defaultdict(list)
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not (words := line.split()):
            continue
        try:
            (row,) = _check_boxes([list(map(float, words[:5]))], "it").tolist()
            (name,) = words[5:]
            if min(row[3:]) <= 0:
                raise ValueError("a box without area")
        except ValueError as error:
            raise ReidError(
                f"{path} must have lines 'person_id x y w h frame_name' with w and h above 0, got {line!r} in "
                f"line {number}; unpack the release again"
            ) from error
        queries[name.removesuffix(".jpg")].append(_person(0, *row))
    return dict(queries)
