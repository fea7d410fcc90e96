"""The vectors of a gallery while they are computed: interrupted at any moment, they go on from there.

OUTPUT_DIR/embeddings.part/ holds job.json (what is computed) and for each share of the images the vectors and a mark
for each row. No process writes into another's files, so shares may run on machines with a common folder, or their
files be copied into one.
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from inference.shares import Share
from utils.errors import ReidError
from utils.files import write_text, written_aside

FOLDER = "embeddings.part"
_JOB = "job.json"
_TO_DO, _DONE, _UNREADABLE = 0, 1, 2
_COMMIT_SECONDS = 10.0  # at most this much work is lost, even to a power failure


def begin(output: Path, job: Mapping[str, Any]) -> bool:
    """Create the folder of unfinished work, or find that of the same job.

    Args:
        output: OUTPUT_DIR.
        job: everything on which the vectors depend, of JSON's types.

    Returns:
        Whether it was begun before.

    Raises:
        ReidError: if another job was; the message names what differs.
    """
    path = output / FOLDER / _JOB
    if not path.exists():
        write_text(path, json.dumps(job, indent=2) + "\n")
        return False
    found = json.loads(path.read_text(encoding="utf-8"))
    wanted = json.loads(json.dumps(job))
    differing = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
    if differing:
        shown = "; ".join(f"{key} was {found.get(key)} and is {wanted.get(key)}" for key in differing)
        raise ReidError(
            f"{path.parent} holds unfinished work that cannot be continued: {shown}; finish it, delete this folder, "
            "or set another OUTPUT_DIR"
        )
    return True


class ShareFiles:
    """The files of one share: vectors (M, D) and marks (M,), both memory maps.

    Args:
        output: OUTPUT_DIR.
        share: which part.
        rows: M.
        dim: D.
    """

    def __init__(self, output: Path, share: Share, rows: int, dim: int) -> None:
        self._stem = f"{share.number}-of-{share.total}"
        self._vectors_path = output / FOLDER / f"{self._stem}.vectors.npy"
        self._marks_path = output / FOLDER / f"{self._stem}.marks.npy"
        self._shape = (rows, dim)
        self._uncommitted: list[NDArray[np.int64]] = []
        self._last_commit = time.monotonic()

    @property
    def lock(self) -> Path:
        """Held by the process at work on this share; made for it alone."""
        return self._vectors_path.with_name(f"{self._stem}.lock")

    @property
    def complete(self) -> bool:
        """Whether no row is left to do."""
        return self._marks_path.is_file() and not bool((self._marks() == _TO_DO).any())

    def create(self) -> None:
        """Create the files, unless an earlier run has."""
        if not self._marks_path.is_file():
            _allocate(self._vectors_path, self._shape, np.float32)
            _allocate(self._marks_path, self._shape[:1], np.uint8)

    def rows_to_do(self) -> NDArray[np.int64]:
        """(K,) rows of this share without a vector; unreadable images are tried again."""
        return np.flatnonzero(self._marks() != _DONE)

    def put(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Store (N, D) vectors in rows of this share."""
        if len(rows):
            self._vectors("r+")[rows] = vectors
            self._uncommitted.append(rows)
        if time.monotonic() - self._last_commit > _COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Mark what was stored as done, once it is on the disk."""
        if self._uncommitted:
            self._vectors("r+").flush()
            marks = self._marks("r+")
            marks[np.concatenate(self._uncommitted)] = _DONE
            marks.flush()
        self._uncommitted, self._last_commit = [], time.monotonic()

    def finish(self) -> None:
        """Mark the rows that got no vector as unreadable: nothing is left to do."""
        self.commit()
        marks = self._marks("r+")
        marks[marks == _TO_DO] = _UNREADABLE
        marks.flush()

    def done(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows (K,) with a vector, and the memory map (M, D) of all vectors."""
        return np.flatnonzero(self._marks() == _DONE), self._vectors("r")

    def _vectors(self, mode: str) -> "np.memmap[Any, Any]":
        return self._open(self._vectors_path, mode, self._shape)

    def _marks(self, mode: str = "r") -> "np.memmap[Any, Any]":
        return self._open(self._marks_path, mode, self._shape[:1])

    def _open(self, path: Path, mode: str, shape: tuple[int, ...]) -> "np.memmap[Any, Any]":
        try:
            array = open_memmap(path, mode=mode)
        except (OSError, ValueError) as error:
            raise ReidError(f"{path} must be part of unfinished work, but is damaged: {error}; delete it") from error
        if array.shape != shape:
            raise ReidError(f"{path} must have shape {shape}, got {array.shape}; delete {path.parent}")
        return array


def _allocate(path: Path, shape: tuple[int, ...], kind: type) -> None:
    """A .npy file of zeros whose space on the disk is taken: a full disk is an error now, not a crash later."""
    with written_aside(path) as aside:
        open_memmap(aside, mode="w+", dtype=kind, shape=shape).flush()
        if hasattr(os, "posix_fallocate") and (size := aside.stat().st_size):
            with aside.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, size)
