"""Exact search: every query against every vector, tile by tile, at little more than the cost of the product."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from inference.neighbours import Neighbours, Vectors, checked_vectors, neighbours_asked
from utils import blocks
from utils.errors import ReidError
from utils.precision import full_precision

_COLUMNS, _MOST_ROWS = 4096, 4096  # of a tile; larger ones gain nothing more
_BYTES_PER_PAIR = 64  # of a tile when every pair of it is a candidate: values, places, and their sort
_SMALLEST_NORM = 1e-12


class _Best(NamedTuple):
    """The best so far of a block of queries: scores descending, equal ones in the order of their items."""

    scores: Tensor  # (Q, up to k)
    items: Tensor  # (Q, up to k) int64


class FlatIndex:
    """All vectors as they are, a memory map included: it is read tile by tile and never copied whole.

    Only scores above a query's k-th best so far are looked at further, so that beyond the first tile the cost
    is the product and one comparison. Equal scores come in the order of the vectors. Kept beside the vectors:
    one number for each.
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
        given = checked_vectors("queries", queries, self._vectors.shape[1])
        columns = min(len(self), max(_COLUMNS, 4 * k))  # so that the first tile alone fills all k places
        rows_at_once = min(_MOST_ROWS, max(1, blocks.MEMORY_BUDGET // (_BYTES_PER_PAIR * columns)))
        found = Neighbours(np.empty((len(given), k), np.float32), np.empty((len(given), k), np.int64))
        with full_precision(self._device):
            for rows in blocks.blocks_of(len(given), rows_at_once):
                block = given[rows].to(self._device, torch.float32)
                squares = _squares("queries", block)
                if self._normalize:
                    block = block / squares.sqrt().clamp(_SMALLEST_NORM).float()[:, None]
                best = self._best(block, k, columns)
                found.distances[rows] = self._distances(best.scores, squares).cpu().numpy()
                found.indices[rows] = best.items.cpu().numpy()
        return found

    def _tiles(self, columns: int) -> Iterator[tuple[slice, Tensor]]:
        for part in blocks.blocks_of(len(self._vectors), columns):
            yield part, self._vectors[part].to(self._device, torch.float32)

    def _best(self, queries: Tensor, k: int, columns: int) -> _Best:
        best = None
        for part, tile in self._tiles(columns):
            if self._normalize:
                scores = torch.mm(queries, tile.T).mul_(self._terms[part])
            else:
                scores = torch.mm(queries, tile.T).sub_(self._terms[part])
            best = _first_best(scores, k) if best is None else _merged(best, scores, part.start, k)
        assert best is not None
        return best

    def _distances(self, scores: Tensor, squares: Tensor) -> Tensor:
        if self._normalize:
            return (1.0 - scores).clamp_(0.0, 2.0)
        return (squares[:, None] + self._median - 2.0 * scores.double()).clamp_(0.0).float()


def _first_best(scores: Tensor, k: int) -> _Best:
    # topk leaves the order of ties open, even which of them it returns: only its lowest score is taken.
    nothing = _Best(scores[:, :0], torch.empty((len(scores), 0), dtype=torch.int64, device=scores.device))
    if k >= scores.shape[1]:
        return _sorted(scores, torch.arange(scores.shape[1], device=scores.device).expand_as(scores), k)
    lowest = scores.topk(k, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
    return _with_candidates(nothing, scores, scores >= lowest, 0, k)


def _merged(best: _Best, scores: Tensor, offset: int, k: int) -> _Best:
    """The best of ``best`` and of a tile whose first column is item ``offset``; tiles come from left to right."""
    # The first tile filled all k places. An item only as good as the k-th best stays behind it.
    return _with_candidates(best, scores, scores > best.scores[:, -1:], offset, k)


def _with_candidates(best: _Best, scores: Tensor, chosen: Tensor, offset: int, k: int) -> _Best:
    rows, columns = chosen.nonzero(as_tuple=True)
    if not len(rows):
        return best
    counts = torch.bincount(rows, minlength=len(scores))
    first, width = best.scores.shape[1], int(counts.max())
    # Behind the best so far, row by row and packed to the left: a stable sort keeps ties in their order.
    place = first + torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    values = scores.new_full((len(scores), first + width), -torch.inf)
    items = torch.zeros_like(values, dtype=torch.int64)
    values[:, :first], items[:, :first] = best.scores, best.items
    values[rows, place] = scores[rows, columns]
    items[rows, place] = columns + offset
    return _sorted(values, items, k)


def _sorted(scores: Tensor, items: Tensor, k: int) -> _Best:
    values, order = scores.sort(dim=1, descending=True, stable=True)
    # Copies: views would hold the whole sorted block.
    return _Best(values[:, :k].clone(), items.gather(1, order[:, :k]))


def _squares(name: str, rows: Tensor) -> Tensor:
    """(N,) float64 squared norms.

    Raises:
        ReidError: if one is not finite.
    """
    squares = rows.double().square_().sum(dim=1)
    if not bool(torch.isfinite(squares).all()):
        raise ReidError(f"{name} must be finite, got NaN or infinity; look for a diverged training")
    return squares
