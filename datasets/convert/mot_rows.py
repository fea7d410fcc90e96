"""Boxes of a detector, a tracker or an annotation in the form of the MOT Challenge, a line for each.

Columns: frame (from 1), id (-1 = a detection without identity), left, top, width, height, confidence; where there are
more, class and visibility. In an annotation (``gt.txt``) the confidence is a flag, 0 = a box to ignore.
"""

import hashlib
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.errors import ReidError

NOBODY = -1
_GROUND_TRUTH = "gt.txt"
_PEDESTRIAN = 1
_LEAST, _MOST = 7, 9  # columns that are needed, and that are read
_LARGEST = 2**31  # of frames, ids and pixels
_FORM = "frame,id,x,y,w,h,confidence"


@dataclass(frozen=True)
class RowRules:
    """Which boxes count.

    Attributes:
        every: n, to take the first frame and each n-th after it.
        min_confidence: boxes of less are left out; None = no box is. Those of exactly 0 always are.
        min_visibility: people of whom less is visible are left out, 0 to 1; negative values mean unknown.
        classes: values of the eighth column; empty = all, of an annotation that of pedestrians (1).
    """

    every: int = 1
    min_confidence: float | None = None
    min_visibility: float = 0.0
    classes: tuple[int, ...] = ()


class Rows(NamedTuple):
    """The boxes of a file that count, by frame and, within a frame, in the order of the file.

    Attributes:
        frames: (N,) int64, from 1 on.
        ids: (N,) int64, :data:`NOBODY` where there is none.
        corners: (N, 4) float64: left, top, right, bottom in pixels, right and bottom just outside.
        total: boxes in the file.
        last_frame: the largest number of a frame in the file.
        digest: of the file, SHA-256.
    """

    frames: NDArray[np.int64]
    ids: NDArray[np.int64]
    corners: NDArray[np.float64]
    total: int
    last_frame: int
    digest: str


def read_rows(path: Path, rules: RowRules) -> Rows:
    """Read a file of boxes, line by line: only the boxes that count stay in memory.

    Raises:
        ReidError: if the file cannot be read, or a line is malformed or has an id that its frame has already.
    """
    labels, numbers = array("q"), array("d")
    classes = rules.classes or ((_PEDESTRIAN,) if path.name == _GROUND_TRUTH else ())
    total = last_frame = 0
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for line, content in enumerate(file, start=1):
                digest.update(content)
                if not content.strip():
                    continue
                row = _parse(content, path, line)
                total, last_frame = total + 1, max(last_frame, int(row[0]))
                if _counts(row, rules, classes):
                    left, top, width, height = row[2:6]
                    labels.extend((int(row[0]), max(int(row[1]), NOBODY), line))
                    numbers.extend((left, top, left + width, top + height))
    except OSError as error:
        raise ReidError(f"BOXES {path} must be readable, but: {error.strerror or error}") from error
    columns = np.frombuffer(labels, np.int64).reshape(-1, 3)
    order = np.argsort(columns[:, 0], kind="stable")
    frames, ids, lines = columns[order].T
    _refuse_twice(frames, ids, lines, path)
    corners = np.frombuffer(numbers, np.float64).reshape(-1, 4)[order]
    return Rows(frames, ids, corners, total, last_frame, digest.hexdigest())


def _parse(content: bytes, path: Path, line: int) -> list[float]:
    text = content.decode("utf-8-sig", "replace").strip()
    try:
        row = [float(cell) for cell in text.replace(",", " ").split()[:_MOST]]
    except ValueError:
        row = []
    whole = len(row) >= _LEAST and all(map(math.isfinite, row)) and row[0] % 1 == row[1] % 1 == 0 and row[0] >= 1
    if not whole or max(map(abs, row[:6])) >= _LARGEST:
        raise ReidError(
            f"lines of BOXES must be '{_FORM},...': numbers, frames from 1 and ids whole, but line {line} of {path} "
            f"is {text[:80]!r}; correct or remove it"
        )
    return row


def _counts(row: Sequence[float], rules: RowRules, classes: Sequence[int]) -> bool:
    confidence, kind, visibility = row[6], row[7:8], row[8:9]
    return (
        (row[0] - 1) % rules.every == 0
        and confidence != 0
        and (rules.min_confidence is None or confidence >= rules.min_confidence)
        and (not classes or not kind or kind[0] in classes)
        and not (visibility and 0 <= visibility[0] < rules.min_visibility)
    )


def _refuse_twice(frames: NDArray[np.int64], ids: NDArray[np.int64], lines: NDArray[np.int64], path: Path) -> None:
    order = np.lexsort((ids, frames))
    again = (np.diff(frames[order]) == 0) & (np.diff(ids[order]) == 0) & (ids[order][1:] != NOBODY)
    if again.any():
        place = int(np.flatnonzero(again)[0])
        first, second = order[place], order[place + 1]
        raise ReidError(
            f"a track must be in a frame once, but lines {lines[first]} and {lines[second]} of {path} have track "
            f"{ids[first]} in frame {frames[first]} twice; remove one"
        )
