"""Exact nearest neighbors, tile by tile, in bounded memory.

The whole matrix of similarities is never needed, only the few best entries of each row. Call these functions within
:func:`utils.precision.full_precision`: in bfloat16 the order of the neighbors would change.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.retrieval.distances import DistanceBlocks
from evaluation.retrieval.inputs import Retrieval
from utils import blocks
from utils.distance import SMALLEST_NORM

BYTES_PER_PAIR = 64
"""Memory of a tile when each of its pairs is a candidate: values, places, and their sort."""

_SMALLEST_TILE, _LARGEST_TILE = 64, 4096  # larger tiles are no faster
_ITEM_BYTES = 40  # of ranked_items: the order of the matches and of the distances, their buffers, and the items


class TopK:
    """The k items of highest value of each of N rows so far; equal items in the order of their index.

    Only values above a row's k-th best so far are candidates, so after the first tiles the cost is one comparison.

    Attributes:
        values: (N, k) floating point, descending.
        indices: (N, k) int64.
    """

    def __init__(self, num_rows: int, k: int, like: Tensor) -> None:
        """Start without items; values have the dtype and the device of ``like``."""
        self.values = like.new_full((num_rows, k), -torch.inf)
        self.indices = torch.zeros((num_rows, k), dtype=torch.int64, device=like.device)

    def merge(self, rows: slice, tile: Tensor, offset: int) -> None:
        """Merge the values (rows, C) of the items from ``offset`` on; the tiles of a row come from left to right."""
        k = self.values.shape[1]
        size = min(offset, k)  # length of the lists so far
        if size == k:
            # An item that is only as good as the k-th best stays behind it.
            values, indices = _pack(tile, tile > self.values[rows, -1:])
        elif k < tile.shape[1]:
            # topk does not define which of several ties it returns, so only its lowest value is used.
            lowest = tile.topk(k, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
            values, indices = _pack(tile, tile >= lowest)
        else:
            values, indices = tile, torch.arange(tile.shape[1], device=tile.device).expand_as(tile)
        if not values.shape[1]:
            return
        # The indices of the best so far are lower, so a stable sort keeps ties in the order of their index.
        values = torch.cat([self.values[rows, :size], values], dim=1)
        indices = torch.cat([self.indices[rows, :size], indices + offset], dim=1)
        values, order = values.sort(dim=1, descending=True, stable=True)
        length = min(k, values.shape[1])
        self.values[rows, :length] = values[:, :length]
        self.indices[rows, :length] = indices.gather(1, order[:, :length])


def _pack(tile: Tensor, is_candidate: Tensor) -> tuple[Tensor, Tensor]:
    """The candidates of each row and their columns, from left to right; -inf fills the shorter rows."""
    # Of a transposed mask nonzero takes six times as long.
    rows, columns = is_candidate.contiguous().nonzero(as_tuple=True)
    counts = torch.bincount(rows, minlength=len(tile))
    places = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    values = tile.new_full((len(tile), int(counts.max())), -torch.inf)
    indices = torch.zeros_like(values, dtype=torch.int64)
    values[rows, places] = tile[rows, columns]
    indices[rows, places] = columns
    return values, indices


class Neighbors(NamedTuple):
    """The k most similar items of each of N rows, best first; equal items in the order of their index.

    Attributes:
        similarities: (N, k) floating point, cosine similarities.
        indices: (N, k) int64, positions among the items.
        lowest: (N,) floating point, similarity of the least similar of all items.
    """

    similarities: Tensor
    indices: Tensor
    lowest: Tensor


def normalize(*parts: Tensor) -> Tensor:
    """All rows of ``parts`` one below the other, scaled to length 1; a row of zeros stays zero.

    The result is float32, or float64 if any part is.
    """
    dtype = torch.float64 if any(part.dtype == torch.float64 for part in parts) else torch.float32
    shape = (sum(len(part) for part in parts), parts[0].shape[1])
    rows = torch.empty(shape, dtype=dtype, device=parts[0].device)
    for target, part in zip(torch.split(rows, [len(part) for part in parts]), parts, strict=True):
        target.copy_(part)
    return rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min_(SMALLEST_NORM))


def nearest(queries: Tensor, items: Tensor, k: int) -> TopK:
    """The ``k`` most similar items of each query.

    Args:
        queries: (N, D) rows of length 1.
        items: (M, D) rows of length 1, with M >= k.
        k: neighbors of each query.

    Returns:
        Cosine similarities, and positions in ``items``.
    """
    best = TopK(len(queries), k, queries)
    for rows in _tiles(len(queries)):
        for columns in _tiles(len(items)):
            best.merge(rows, queries[rows] @ items[columns].T, columns.start)
    return best


def nearest_among(features: Tensor, k: int) -> Neighbors:
    """The ``k`` most similar rows of the same set for each row; each row comes first in its own list.

    The matrix is symmetric, so each tile above the diagonal serves its rows and its columns, with half the
    multiplications of :func:`nearest`.

    Args:
        features: (N, D) rows of length 1, with N >= k.
        k: neighbors of each row, including itself.
    """
    best = TopK(len(features), k, features)
    lowest = features.new_full((len(features),), torch.inf)
    tiles = _tiles(len(features))
    for number, rows in enumerate(tiles):
        for columns in tiles[number:]:
            tile = features[rows] @ features[columns].T
            if rows is columns:
                # An equal item of lower index must not push an item out of its own list.
                tile.fill_diagonal_(torch.inf)
            else:
                best.merge(columns, tile.T, rows.start)
                lowest[columns] = torch.minimum(lowest[columns], tile.amin(dim=0))
            best.merge(rows, tile, columns.start)
            lowest[rows] = torch.minimum(lowest[rows], tile.amin(dim=1))
    best.values[:, 0] = 1.0
    return Neighbors(best.values, best.indices, lowest)


def _tiles(total: int) -> list[slice]:
    side = int((blocks.MEMORY_BUDGET / BYTES_PER_PAIR) ** 0.5)
    return list(blocks.blocks_of(total, min(max(side, _SMALLEST_TILE), _LARGEST_TILE)))


class RankedItems(NamedTuple):
    """At most k items of each of Q queries, nearest first.

    Attributes:
        values: (Q, K) negated cosines, ascending.
        items: (Q, K) int64, positions in the gallery.
        matches: (Q, K) bool, whether an item shows the query's person.
        counts: (Q,) int64, how many items of a row are valid; the camera rule removes the rest.
    """

    values: Tensor
    items: Tensor
    matches: Tensor
    counts: Tensor


def ranked_items(retrieval: Retrieval, k: int, camera_rule: bool) -> RankedItems:
    """Top-k gallery items by cosine under the evaluation protocol; at a tie matches come last, else position decides.

    Args:
        retrieval: query and gallery.
        k: items per query.
        camera_rule: remove the gallery items of the query's person from the query's camera.
    """
    parts = []
    per_query = len(retrieval.gallery) * (_ITEM_BYTES + retrieval.query.dtype.itemsize)
    for rows, values in DistanceBlocks(retrieval).blocks(per_query):
        matches = retrieval.query_ids[rows, None] == retrieval.gallery_ids
        counts = torch.full_like(retrieval.query_ids[rows], values.shape[1])
        if camera_rule:
            is_removed = matches & (retrieval.query_cameras[rows, None] == retrieval.gallery_cameras)
            values.masked_fill_(is_removed, float("inf"))
            counts -= is_removed.sum(1)
        others_first = matches.byte().sort(dim=1, stable=True).indices
        ordered, order = values.gather(1, others_first).sort(dim=1, stable=True)
        items = others_first.gather(1, order[:, :k])
        # Clone, because a view would keep the whole sorted block.
        parts.append((ordered[:, :k].clone(), items, matches.gather(1, items), counts.clamp_max(k)))
    return RankedItems(*(torch.cat(column) for column in zip(*parts, strict=True)))
