"""The paths of very many images, held as names within one folder in one compact array."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from utils.blocks import blocks_of

_BLOCK = 2**16  # paths that exist as Python strings at once


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
        for rows in blocks_of(len(self), _BLOCK):
            yield from self[rows].tolist()

    def tolist(self) -> list[str]:
        """All paths."""
        return list(self)

    def without(self, left_out: NDArray[np.bool_]) -> "ImagePaths":
        """Those that are not marked in ``left_out`` (N,)."""
        return ImagePaths(self._start, self._names[~left_out]) if left_out.any() else self

    def digest_of_names(self) -> str:
        """A fingerprint of the names within the folder: it may be mounted elsewhere on another machine."""
        digest = hashlib.sha256()
        for rows in blocks_of(len(self), _BLOCK):
            digest.update(b"\0".join([*self._names[rows].tolist(), b""]))
        return digest.hexdigest()[:16]


def sorted_names(names: Iterable[str]) -> NDArray[np.bytes_]:
    """(N,) names as the file system has them, in an order that does not depend on it."""
    encoded = map(os.fsencode, names)
    blocks = [np.empty(0, "S1")]
    while block := list(islice(encoded, _BLOCK)):
        blocks.append(np.array(block))
    joined = np.concatenate(blocks)
    joined.sort()
    return joined


def write_paths(path: Path, images: ImagePaths, rows: NDArray[np.int64]) -> NDArray[np.str_]:
    """Write paths as a .npy file of unicode strings.

    Args:
        path: the file.
        images: N paths.
        rows: (M,) which of them, one at least.

    Returns:
        (M,) the file as a memory map.
    """
    blocks = list(blocks_of(len(rows), _BLOCK))
    longest = max(images[rows[block]].dtype.itemsize for block in blocks) // np.dtype("U1").itemsize
    target = open_memmap(path, mode="w+", dtype=f"U{longest}", shape=(len(rows),))
    for block in blocks:
        target[block] = images[rows[block]]
    target.flush()
    return target
