"""What tells one gallery from another."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.neighbours import Vectors, checked_vectors
from utils.blocks import blocks_of

_BLOCK_BYTES = 16 * 2**20  # of vectors read at once
_BLOCK_PATHS = 2**16


@dataclass(frozen=True)
class Fingerprint:
    """Of a set of vectors, and of the paths of their images where they have some.

    Attributes:
        rows: N.
        dim: D.
        digest: SHA-256 of all vectors as float32, then of the paths.
    """

    rows: int
    dim: int
    digest: str


class Fingerprinting:
    """Takes a fingerprint of vectors while they pass by."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._rows = self._dim = 0

    def add(self, vectors: NDArray[np.float32]) -> None:
        """The next (M, D) vectors."""
        self._digest.update(np.ascontiguousarray(vectors, np.float32).view(np.uint8).data)
        self._rows, self._dim = self._rows + len(vectors), vectors.shape[1]

    def finish(self, paths: Sequence[str] | NDArray[np.str_] = ()) -> Fingerprint:
        """The fingerprint of all vectors that were added, with the ``paths`` (N,) of their images."""
        for rows in blocks_of(len(paths), _BLOCK_PATHS):
            block = "\0".join([*map(str, paths[rows]), ""])
            self._digest.update(block.encode("utf-8", "surrogatepass"))
        return Fingerprint(self._rows, self._dim, self._digest.hexdigest())


def fingerprint_of(vectors: Vectors, paths: Sequence[str] | NDArray[np.str_] = ()) -> Fingerprint:
    """The fingerprint of (N, D) vectors, torch or numpy, and of the ``paths`` (N,); all are read block by block."""
    matrix = checked_vectors("vectors", vectors)
    taking = Fingerprinting()
    for rows in blocks_of(len(matrix), max(1, _BLOCK_BYTES // (4 * matrix.shape[1]))):
        taking.add(matrix[rows].float().cpu().numpy())
    return taking.finish(paths)
