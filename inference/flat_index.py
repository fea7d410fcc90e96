"""Exact search: every query against every vector, tile by tile, at little more than the cost of the product."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from evaluation.retrieval.knn import BYTES_PER_PAIR, TopK
from inference.neighbours import Neighbours, Vectors, checked_vectors, neighbours_asked
from utils import blocks
from utils.errors import ReidError
from utils.precision import full_precision

_COLUMNS, _MOST_ROWS = 4096, 4096  # of a tile; larger ones gain nothing more
_SMALLEST_NORM = 1e-12


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
            normalize: cosine distance; False = squared euclidean distance.
            device: where the products run; None = where the vectors are.

        Raises:
            ReidError: if the vectors are no (N, D) matrix or not finite.
        """
        self._vectors = checked_vectors("vectors", vectors)
        self._device = torch.device(device) if device is not None else self._vectors.device
        self._normalize = normalize
        with full_precision(self._device):
            squares = torch.cat([_squares("vectors", tile) for _, tile in self._tiles(_COLUMNS)])
        self._median = 0.0 if normalize else float(squares.median())
        # Half the squared norms, less what all have in common: near items differ in digits that it would hide.
        terms = squares.sqrt().clamp(_SMALLEST_NORM).reciprocal() if normalize else (squares - self._median) / 2
        self._terms = terms.float()

    def __len__(self) -> int:
        """Number of vectors."""
        return len(self._vectors)

    def asked(self, k: int) -> int:
        """See :meth:`inference.neighbours.Index.asked`."""
        return neighbours_asked(k, len(self))

    def search(self, queries: Vectors, k: int = 0) -> Neighbours:
        """See :meth:`inference.neighbours.Index.search`; exact up to the rounding of a float32 product."""
        k = self.asked(k)
        matrix = checked_vectors("queries", queries, self._vectors.shape[1])
        columns = min(len(self), max(_COLUMNS, 4 * k))  # so that the first tile alone fills all k places
        rows_at_once = min(_MOST_ROWS, max(1, blocks.MEMORY_BUDGET // (BYTES_PER_PAIR * columns)))
        neighbors = Neighbours(np.empty((len(matrix), k), np.float32), np.empty((len(matrix), k), np.int64))
        with full_precision(self._device):
            for rows in blocks.blocks_of(len(matrix), rows_at_once):
                block = matrix[rows].to(self._device, torch.float32)
                squares = _squares("queries", block)
                if self._normalize:
                    block = block / squares.sqrt().clamp(_SMALLEST_NORM).float()[:, None]
                best = self._best(block, k, columns)
                neighbors.distances[rows] = self._distances(best.values, squares).cpu().numpy()
                neighbors.indices[rows] = best.indices.cpu().numpy()
        return neighbors

    def _tiles(self, columns: int) -> Iterator[tuple[slice, Tensor]]:
        for part in blocks.blocks_of(len(self._vectors), columns):
            yield part, self._vectors[part].to(self._device, torch.float32)

    def _best(self, queries: Tensor, k: int, columns: int) -> TopK:
        best = TopK(len(queries), k, queries)
        for part, tile in self._tiles(columns):
            scores = torch.mm(queries, tile.T)
            scores = scores.mul_(self._terms[part]) if self._normalize else scores.sub_(self._terms[part])
            best.merge(slice(None), scores, part.start)
        return best

    def _distances(self, scores: Tensor, squares: Tensor) -> Tensor:
        if self._normalize:
            return (1.0 - scores).clamp_(0.0, 2.0)
        return (squares[:, None] + self._median - 2.0 * scores.double()).clamp_(0.0).float()


def _squares(name: str, rows: Tensor) -> Tensor:
    """(N,) float64 squared norms.

    Raises:
        ReidError: if one is not finite.
    """
    squares = rows.double().square_().sum(dim=1)
    if not bool(torch.isfinite(squares).all()):
        raise ReidError(f"{name} must be finite, got NaN or infinity; look for a diverged training")
    return squares
