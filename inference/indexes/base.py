"""What every kind of index takes and gives."""

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from evaluation.retrieval.inputs import as_tensor
from utils.errors import ReidError

NOT_FOUND = -1  # index of a place that a search could not fill

Vectors = np.ndarray | Tensor


class SearchResult(NamedTuple):
    """The k nearest items of each of Q queries, nearest first.

    An approximate or filtered search may find fewer: the remaining places have the index -1 and an infinite distance.

    Attributes:
        distances: (Q, k) float32, ascending: cosine distance in [0, 2] of normalized vectors (1 from a vector of
            zeros), squared Euclidean distance of vectors as they are.
        indices: (Q, k) int64, positions among the indexed vectors.
    """

    distances: np.ndarray
    indices: np.ndarray


class Index(Protocol):
    """Vectors that can be searched."""

    def __len__(self) -> int:
        """Number of vectors."""

    def resolve_k(self, k: int) -> int:
        """The number of neighbors that ``k`` stands for; 0 = all, and more than there are gives all.

        Raises:
            ReidError: if ``k`` is no integer of 0 or more, or more than this kind of index can give.
        """

    def search(self, queries: Vectors, k: int = 0) -> SearchResult:
        """The ``k`` nearest vectors of each query.

        Args:
            queries: (Q, D) floating point; Q may be 0.
            k: see :meth:`resolve_k`.

        Raises:
            ReidError: as :meth:`resolve_k`, or if the queries have another dimension or are not finite.
        """


def as_matrix(name: str, vectors: Vectors, dim: int | None = None) -> Tensor:
    """The vectors as an (N, D) tensor that shares their memory; a memory map stays one.

    Args:
        name: of the argument, for the message.
        vectors: (N, D) floating point.
        dim: D where it is known; N may be 0 then.

    Raises:
        ReidError: if they are no (N, D) matrix of floating point, are empty, or have another dimension.
    """
    matrix = as_tensor(vectors)
    if matrix.ndim != 2 or not matrix.is_floating_point() or not (matrix.numel() or dim):
        raise ReidError(
            f"{name} must be an (N, D) matrix of floating point with at least one row, got {tuple(matrix.shape)} "
            f"{matrix.dtype}; pass one embedding per row"
        )
    if dim is not None and matrix.shape[1] != dim:
        raise ReidError(f"{name} must have {dim} dimensions, got {matrix.shape[1]}; embed both sides with one model")
    return matrix


def finite_rows(name: str, rows: Tensor, device: torch.device | str | None = None) -> Tensor:
    """Some rows of a matrix as float32, checked where an index reads them for the first time.

    Args:
        name: of the matrix, for the message.
        rows: (N, D) floating point.
        device: that computes; None = where they are.

    Raises:
        ReidError: if one is not finite.
    """
    rows = rows.to(device=device, dtype=torch.float32)
    if not bool(torch.isfinite(rows).all()):
        raise ReidError(f"{name} must be finite, got NaN or infinity; look for a diverged training")
    return rows


def resolve_k(k: int, num_items: int) -> int:
    """The number of neighbors that ``k`` stands for among ``num_items``.

    Raises:
        ReidError: if ``k`` is no integer of 0 or more.
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 0:
        raise ReidError(f"k must be an integer of 0 (all) or more, got {k!r}; 100 is usual")
    return min(int(k), num_items) or num_items
