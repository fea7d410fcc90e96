"""Arrays that may be larger than the memory, written row by row."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from utils.files import written_aside


class NpyWriter:
    """The rows of a .npy file; the first ones decide its dtype and the shape of a row."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._first: np.ndarray | None = None
        self._num_rows = 0

    def __len__(self) -> int:
        """Number of rows so far, N."""
        return self._num_rows

    def append(self, rows: np.ndarray) -> None:
        """Write the next rows (M, ...)."""
        if self._first is None:
            self._first = rows[:0]
            self.write_header()
        assert (rows.dtype, rows.shape[1:]) == (self._first.dtype, self._first.shape[1:])
        self._file.write(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
        self._num_rows += len(rows)

    def write_header(self) -> None:
        """Write the header for the rows so far; NumPy leaves room in it for their number."""
        if self._first is not None:
            shape = (self._num_rows, *self._first.shape[1:])
            header = {"descr": npy.dtype_to_descr(self._first.dtype), "fortran_order": False, "shape": shape}
            self._file.seek(0)
            npy.write_array_header_1_0(self._file, header)


def save_rows(file: BinaryIO, rows: np.ndarray) -> None:
    """Write rows (N, ...) as a .npy file.

    ``numpy.save`` does not notice that a full disk takes a part of the last bytes only.
    """
    writer = NpyWriter(file)
    writer.append(rows)
    writer.write_header()


@contextmanager
def write_npy(path: Path) -> Iterator[NpyWriter]:
    """Write a .npy file of any length, whole or not at all; ``numpy.load(path, mmap_mode="r")`` reads it.

    On a full disk a write is an OSError, where a store into a memory map would kill the process.
    """
    with written_aside(path) as aside, aside.open("wb") as file:
        writer = NpyWriter(file)
        yield writer
        writer.write_header()
