"""Exact search: every query against every vector, tile by tile, at little more than the cost of the product."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from evaluation.retrieval.knn import BYTES_PER_PAIR, TopK
from inference.indexes.base import SearchResult, Vectors, as_matrix, finite_rows, resolve_k
from utils import blocks
from utils.distance import SMALLEST_NORM
from utils.precision import full_precision

_COLUMNS, _MAX_ROWS = 4096, 4096  # of a tile; larger ones gain nothing more


class FlatIndex:
    """All vectors as they are, a memory map included: it is read tile by tile and never copied whole.

    Beyond the first tile the cost is the product and one comparison (:class:`evaluation.retrieval.knn.TopK`). Equal
    scores come in the order of the vectors. Beside the vectors there is one number for each.
    """

    def __init__(
        self,
        vectors: Vectors,
        *,
        normalize: bool = True,
        device: torch.device | str | None = None,
    ) -> None:
        """Read the vectors once for their norms.

        Args:
            vectors: (N, D) floating point, torch or numpy.
            normalize: cosine distance; False = squared Euclidean distance.
            device: where the products run; None = where the vectors are.

        Raises:
            ReidError: if the vectors are no (N, D) matrix or not finite.
        """
        self._vectors = as_matrix("vectors", vectors)
        self._device = torch.device(device) if device is not None else self._vectors.device
        self._normalize = normalize
        with full_precision(self._device):
            tiles = (finite_rows("vectors", tile) for _, tile in self._tiles(_COLUMNS))
            squares = torch.cat([_squared_norms(tile) for tile in tiles])
        self._median = 0.0 if normalize else float(squares.median())
        # Half the squared norms, less what all have in common: near items differ in digits that it would hide.
        terms = squares.sqrt().clamp(SMALLEST_NORM).reciprocal() if normalize else (squares - self._median) / 2
        self._terms = terms.float()

    def __len__(self) -> int:
        """Number of vectors."""
        return len(self._vectors)

    def resolve_k(self, k: int) -> int:
        """See :meth:`inference.indexes.base.Index.resolve_k`."""
        return resolve_k(k, len(self))

    def search(self, queries: Vectors, k: int = 0) -> SearchResult:
        """See :meth:`inference.indexes.base.Index.search`; exact up to the rounding of a float32 product."""
        k = self.resolve_k(k)
        matrix = as_matrix("queries", queries, self._vectors.shape[1])
        columns = min(len(self), max(_COLUMNS, 4 * k))  # so that the first tile alone fills all k places
        rows_at_once = min(_MAX_ROWS, max(1, blocks.MEMORY_BUDGET // (BYTES_PER_PAIR * columns)))
        result = SearchResult(np.empty((len(matrix), k), np.float32), np.empty((len(matrix), k), np.int64))
        with full_precision(self._device):
            for rows in blocks.blocks_of(len(matrix), rows_at_once):
                block = finite_rows("queries", matrix[rows], self._device)
                squares = _squared_norms(block)
                if self._normalize:
                    block = block / squares.sqrt().clamp(SMALLEST_NORM).float()[:, None]
                best = self._best(block, k, columns)
                result.distances[rows] = self._distances(best.values, squares).cpu().numpy()
                result.indices[rows] = best.indices.cpu().numpy()
        return result

    def _best(self, queries: Tensor, k: int, columns: int) -> TopK:
        best = TopK(len(queries), k, queries)
        for part, tile in self._tiles(columns):
            scores = torch.mm(queries, tile.T)
            scores = scores.mul_(self._terms[part]) if self._normalize else scores.sub_(self._terms[part])
            best.merge(slice(None), scores, part.start)
        return best

    def _tiles(self, columns: int) -> Iterator[tuple[slice, Tensor]]:
        for part in blocks.blocks_of(len(self), columns):
            yield part, self._vectors[part].to(self._device, torch.float32)

    def _distances(self, scores: Tensor, squares: Tensor) -> Tensor:
        if self._normalize:
            return (1.0 - scores).clamp_(0.0, 2.0)
        return (squares[:, None] + self._median - 2.0 * scores.double()).clamp_(0.0).float()


def _squared_norms(rows: Tensor) -> Tensor:
    """(N,) float64."""
    return rows.double().square_().sum(dim=1)
