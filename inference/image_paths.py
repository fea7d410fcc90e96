"""The paths of very many images, held as names within one folder in one compact array."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from inference.npy_writer import write_npy
from utils import blocks

_BYTES_PER_PATH = 4096  # of the memory budget: in the default one 65,536 paths exist as Python strings at once


class ImagePaths:
    """Absolute paths, put together when they are asked for.

    A name that is not UTF-8 comes back in Python's way (``surrogateescape``), so that the file can be opened.
    """

    def __init__(self, root: str, names: NDArray[np.bytes_]) -> None:
        """Take ``names`` (N,), as the file system has them, within the absolute folder ``root``."""
        self._start = os.path.join(root, "")  # noqa: PTH118 (text, not a Path)
        self._names = names

    def __len__(self) -> int:
        """Number of images."""
        return len(self._names)

    @overload
    def __getitem__(self, rows: int) -> str: ...
    @overload
    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.str_]: ...
    def __getitem__(self, rows: int | slice | NDArray[np.int64]) -> str | NDArray[np.str_]:
        """One path, or those of some rows."""
        if isinstance(rows, (int, np.integer)):
            return self._start + os.fsdecode(self._names[rows])
        return np.array([self._start + os.fsdecode(name) for name in self._names[rows].tolist()], dtype=np.str_)

    def __iter__(self) -> Iterator[str]:
        """All paths, one after another."""
        for rows in blocks.row_blocks(len(self), _BYTES_PER_PATH):
            yield from self[rows].tolist()

    def tolist(self) -> list[str]:
        """All paths."""
        return list(self)

    def without(self, mask: NDArray[np.bool_]) -> "ImagePaths":
        """The paths that ``mask`` (N,) does not mark."""
        return ImagePaths(self._start, self._names[~mask]) if mask.any() else self

    def digest_of_names(self) -> str:
        """A fingerprint of the names within the folder: it may be mounted elsewhere on another machine."""
        digest = hashlib.sha256()
        for rows in blocks.row_blocks(len(self), _BYTES_PER_PATH):
            digest.update(b"\0".join([*self._names[rows].tolist(), b""]))
        return digest.hexdigest()[:16]


def sorted_names(names: Iterable[str]) -> NDArray[np.bytes_]:
    """(N,) names as the file system has them, in an order that does not depend on it."""
    encoded = map(os.fsencode, names)
    parts = [np.empty(0, "S1")]
    while part := list(islice(encoded, max(1, blocks.MEMORY_BUDGET // _BYTES_PER_PATH))):
        parts.append(np.array(part))
    array = np.concatenate(parts)
    array.sort()
    return array


def write_paths(path: Path, images: ImagePaths, rows: NDArray[np.int64]) -> NDArray[np.str_]:
    """Write paths as a .npy file of unicode strings.

    Args:
        path: the file.
        images: N paths.
        rows: (M,) which of them, one at least.

    Returns:
        (M,) the file as a read-only memory map.
    """
    parts = [rows[part] for part in blocks.row_blocks(len(rows), _BYTES_PER_PATH)]
    longest = max(images[part].dtype.itemsize for part in parts) // np.dtype("U1").itemsize
    with write_npy(path) as file:
        for part in parts:
            file.append(images[part].astype(f"U{longest}"))
    array: NDArray[np.str_] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array
