"""Arrays that may be larger than the memory, written row by row."""

from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.lib import format as npy


class NpyWriter:
    """A .npy file that grows by ordinary writes; read it with ``numpy.load(path, mmap_mode="r")``.

    On a full disk a write is an OSError, where a store into a memory map would kill the process.
    """

    def __init__(self, path: Path, dtype: str | type[np.generic], row_shape: tuple[int, ...] = ()) -> None:
        """Create the file of an array of (N, *row_shape); it has its N at the end of a ``with`` block."""
        self._dtype, self._row_shape, self._num_rows = np.dtype(dtype), row_shape, 0
        self._file = path.open("wb")
        self._write_header()

    def __len__(self) -> int:
        """Number of rows so far."""
        return self._num_rows

    def append(self, rows: np.ndarray) -> None:
        """Write the next rows (M, *row_shape)."""
        rows = np.ascontiguousarray(rows, self._dtype)
        assert rows.shape[1:] == self._row_shape
        self._file.write(rows.reshape(-1).view(np.uint8).data)
        self._num_rows += len(rows)

    def __enter__(self) -> "NpyWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is None:
                self._file.seek(0)
                self._write_header()  # as long as before: NumPy leaves room for the number of rows

    def _write_header(self) -> None:
        shape = (self._num_rows, *self._row_shape)
        header = {"descr": npy.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(self._file, header)
