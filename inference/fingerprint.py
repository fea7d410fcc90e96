"""What tells one set of vectors from another, without reading all of it."""

import hashlib
from dataclasses import dataclass

import torch

from inference.neighbours import Vectors, checked_vectors

_SAMPLED_ROWS = 1024


@dataclass(frozen=True)
class Fingerprint:
    """Of a set of vectors.

    Attributes:
        rows: N.
        dim: D.
        digest: SHA-256 of evenly spread rows as float32.
    """

    rows: int
    dim: int
    digest: str


def fingerprint_of(vectors: Vectors) -> Fingerprint:
    """The fingerprint of (N, D) vectors, torch or numpy, of which some rows are read."""
    matrix = checked_vectors("vectors", vectors)
    rows = torch.linspace(0, len(matrix) - 1, min(len(matrix), _SAMPLED_ROWS), dtype=torch.float64).long()
    sample = matrix[rows].float().cpu().numpy()
    return Fingerprint(len(matrix), matrix.shape[1], hashlib.sha256(sample.tobytes()).hexdigest())
