"""Exact nearest neighbours by cosine similarity, tile by tile, in bounded memory.

Shared by re-ranking and query expansion: neither ever needs a whole matrix of similarities, only the few
best entries of each row. Call within :func:`utils.precision.full_precision`: in bfloat16 the
neighbours would change places.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from utils import blocks

_SMALLEST_TILE, _LARGEST_TILE = 64, 4096  # larger tiles gain nothing more
_BYTES_PER_PAIR = 40  # a tile, its transpose, and the sort of all of it when everything is tied, in float64
_SMALLEST_NORM = 1e-12


class Neighbours(NamedTuple):
    """The k most similar items of each of N rows, best first; equal ones in the order of their index.

    Attributes:
        similarities: (N, k) floating point, cosine similarities.
        indices: (N, k) int64, positions among the items.
        lowest: (N,) floating point, similarity of the least similar of all items.
    """

    similarities: Tensor
    indices: Tensor
    lowest: Tensor


def normalised(*parts: Tensor) -> Tensor:
    """All rows of ``parts`` one below the other, scaled to length 1; a row of zeros stays as it is.

    In float32, or in float64 if any part is float64.
    """
    dtype = torch.float64 if any(part.dtype == torch.float64 for part in parts) else torch.float32
    shape = (sum(len(part) for part in parts), parts[0].shape[1])
    rows = torch.empty(shape, dtype=dtype, device=parts[0].device)
    for target, part in zip(torch.split(rows, [len(part) for part in parts]), parts, strict=True):
        target.copy_(part)
    return rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min_(_SMALLEST_NORM))


def nearest(left: Tensor, right: Tensor, k: int) -> Neighbours:
    """The ``k`` most similar rows of ``right`` (M, D) for each row of ``left`` (N, D), both normalised.

    Args:
        left: (N, D) rows of length 1.
        right: (M, D) rows of length 1, with M >= k.
        k: neighbours to keep for each row.
    """
    found = _nothing_yet(left, k)
    tiles = _tiles(len(right))
    for rows in _tiles(len(left)):
        for columns in tiles:
            _absorb(found, rows, left[rows] @ right[columns].T, columns.start)
    return found


def nearest_among(features: Tensor, k: int) -> Neighbours:
    """The ``k`` most similar rows of the same set for each row; each row comes first in its own list.

    The matrix is symmetric, so each tile above the diagonal serves its rows and its columns: half the
    multiplications of :func:`nearest`.

    Args:
        features: (N, D) rows of length 1, with N >= k.
        k: neighbours to keep for each row, itself included.
    """
    found = _nothing_yet(features, k)
    tiles = _tiles(len(features))
    for number, rows in enumerate(tiles):
        for columns in tiles[number:]:
            tile = features[rows] @ features[columns].T
            if rows is columns:
                # A copy with a lower index must not push an item out of its own list.
                tile.fill_diagonal_(torch.inf)
            else:
                _absorb(found, columns, tile.T, rows.start)
            _absorb(found, rows, tile, columns.start)
    found.similarities[:, 0] = 1.0
    return found


def _tiles(total: int) -> list[slice]:
    side = int((blocks.MEMORY_BUDGET / _BYTES_PER_PAIR) ** 0.5)
    return list(blocks.blocks_of(total, min(max(side, _SMALLEST_TILE), _LARGEST_TILE)))


def _nothing_yet(features: Tensor, k: int) -> Neighbours:
    shape = (len(features), k)
    return Neighbours(
        features.new_full(shape, -torch.inf),
        torch.zeros(shape, dtype=torch.int64, device=features.device),
        features.new_full(shape[:1], torch.inf),
    )


def _absorb(found: Neighbours, rows: slice, tile: Tensor, offset: int) -> None:
    """Merge a tile, whose first column is item ``offset``; tiles of a row come from left to right."""
    k = found.indices.shape[1]
    values, indices = _top(tile, k)
    values = torch.cat([found.similarities[rows], values], dim=1)
    indices = torch.cat([found.indices[rows], indices + offset], dim=1)
    # The items found so far have the lower indices, so a stable sort keeps ties in the order of index.
    values, order = values.sort(dim=1, descending=True, stable=True)
    found.similarities[rows] = values[:, :k]
    found.indices[rows] = indices.gather(1, order[:, :k])
    found.lowest[rows] = torch.minimum(found.lowest[rows], tile.amin(dim=1))


def _top(tile: Tensor, k: int) -> tuple[Tensor, Tensor]:
    # topk leaves the order of ties open. Rows with a tie in reach are rare, and are sorted in full.
    values, columns = tile.topk(min(k + 1, tile.shape[1]), dim=1)
    tied = (values[:, 1:] == values[:, :-1]).any(dim=1).nonzero()[:, 0]
    if len(tied):
        exact_values, exact_columns = tile[tied].sort(dim=1, descending=True, stable=True)
        values[tied] = exact_values[:, : values.shape[1]]
        columns[tied] = exact_columns[:, : values.shape[1]]
    return values[:, :k], columns[:, :k]
