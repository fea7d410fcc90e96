"""What tells one gallery from another: a hash of all its vectors and paths."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.indexes.base import Vectors, as_matrix
from utils.blocks import row_blocks

_SHARE = 1 / 16  # of the memory budget: vectors and paths that are hashed at once
_BYTES_PER_PATH = 256


@dataclass(frozen=True)
class Fingerprint:
    """Identifies a set of vectors, together with the paths of their images where there are some.

    Attributes:
        rows: N.
        dim: D.
        digest: SHA-256 of all vectors as float32, then of the paths.
    """

    rows: int
    dim: int
    digest: str


class VectorHasher:
    """Takes the fingerprint of vectors while they are written."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._rows = self._dim = 0

    def add(self, vectors: NDArray[np.float32]) -> None:
        """The next (M, D) vectors."""
        self._digest.update(np.ascontiguousarray(vectors, np.float32).view(np.uint8).data)
        self._rows, self._dim = self._rows + len(vectors), vectors.shape[1]

    def finish(self, paths: Sequence[str] | NDArray[np.str_] = ()) -> Fingerprint:
        """The fingerprint of all vectors that were added, with the ``paths`` (N,) of their images."""
        for rows in row_blocks(len(paths), _BYTES_PER_PATH, _SHARE):
            block = "\0".join([*map(str, paths[rows]), ""])
            self._digest.update(block.encode("utf-8", "surrogatepass"))
        return Fingerprint(self._rows, self._dim, self._digest.hexdigest())


def fingerprint_of(vectors: Vectors, paths: Sequence[str] | NDArray[np.str_] = ()) -> Fingerprint:
    """The fingerprint of (N, D) vectors, torch or numpy, and of the ``paths`` (N,); all are read block by block."""
    matrix = as_matrix("vectors", vectors)
    hasher = VectorHasher()
    for rows in row_blocks(len(matrix), 4 * matrix.shape[1], _SHARE):
        hasher.add(matrix[rows].float().cpu().numpy())
    return hasher.finish(paths)
