"""k-reciprocal encoding: the reciprocal neighbors of each item, weighted by distance, as sparse rows.

For N items with lists of nearest items, F(i, k) is i itself and its k nearest, and R(i, k) are the items j of F(i, k)
with i in F(j, k). The encoding V(i, j) is positive for j in R*(i), the union of R(i, k1) with each R(c, k1/2), c in
R(i, k1), of which more than two thirds lie in R(i, k1); k1/2 is rounded, halves to the even integer.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.retrieval.knn import Neighbors
from utils import blocks

_SMALLEST_UNIT = 1e-12  # if all items are equal, every distance is 0 and not 0 / 0
_BYTES_PER_MEMBER = 64  # keys, their sort, and the arrays that one entry of a sparse product passes


class SparseRows(NamedTuple):
    """Rows of non-zero entries: row r holds entries offsets[r] to offsets[r + 1].

    Attributes:
        offsets: (N + 1,) int64.
        columns: (E,) int64, ascending within a row.
        values: (E,) floating point.
    """

    offsets: Tensor
    columns: Tensor
    values: Tensor


def distance_units(neighbors: Neighbors) -> Tensor:
    """(N,) distance of each item from the farthest of all items."""
    return (1.0 - neighbors.lowest).clamp_min_(_SMALLEST_UNIT)


def encode(features: Tensor, neighbors: Neighbors, k1: int) -> SparseRows:
    """V(i, j) = exp(-d(i, j)) for j in R*(i), each row divided by its sum; d in units of the row's farthest item.

    Args:
        features: (N, D) rows of length 1.
        neighbors: the nearest of them for each, at least k1 + 1 if there are as many.
        k1: neighbors in which items must find each other.
    """
    keys = _reciprocal_keys(neighbors.indices, k1)
    rows, columns = keys // len(features), keys % len(features)
    unit = distance_units(neighbors)
    distances = (1.0 - _pair_similarities(features, neighbors, rows, columns)) / unit[rows]
    weights = distances.clamp_(0.0, 1.0).neg_().exp_()
    sums = torch.zeros_like(unit).index_add_(0, rows, weights)
    return SparseRows(_row_offsets(rows, len(features)), columns, weights / sums[rows])


def local_mean(encoding: SparseRows, lists: Tensor) -> SparseRows:
    """Local query expansion: each row becomes the mean of the rows in its list (N, k)."""
    num_items, k = lists.shape
    longest = int(encoding.offsets.diff().max())
    keys, values = [], []
    for rows in blocks.row_blocks(num_items, k * longest * _BYTES_PER_MEMBER):
        owners, entries = _unroll(encoding.offsets, lists[rows].flatten())
        items = owners // k + rows.start
        cells, position = torch.unique(items * num_items + encoding.columns[entries], return_inverse=True)
        sums = encoding.values.new_zeros(len(cells)).index_add_(0, position, encoding.values[entries])
        keys.append(cells)
        values.append(sums / k)
    all_keys = torch.cat(keys)
    return SparseRows(_row_offsets(all_keys // num_items, num_items), all_keys % num_items, torch.cat(values))


def gallery_holders(encoding: SparseRows, num_queries: int) -> SparseRows:
    """The inverted index: row m holds the gallery items with an entry at column m, and those entries."""
    num_items, first = len(encoding.offsets) - 1, int(encoding.offsets[num_queries])
    lengths = encoding.offsets[num_queries:].diff()
    items = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    columns, order = encoding.columns[first:].sort(stable=True)
    return SparseRows(_row_offsets(columns, num_items), items[order], encoding.values[first:][order])


def shared_weight(encoding: SparseRows, holders: SparseRows, rows: slice, num_gallery: int) -> Tensor:
    """(len(rows), G) sums over the columns of the lesser of two entries, of a query and a gallery item.

    Args:
        encoding: rows of the queries, then of the gallery.
        holders: :func:`gallery_holders` of them.
        rows: which queries.
        num_gallery: G.
    """
    bounds = encoding.offsets[rows.start : rows.stop + 1]
    entries = slice(int(bounds[0]), int(bounds[-1]))
    columns, values = encoding.columns[entries], encoding.values[entries]
    queries = torch.arange(len(bounds) - 1, device=bounds.device).repeat_interleave(bounds.diff())
    shared = values.new_zeros((len(bounds) - 1) * num_gallery)
    # An entry meets every holder of its column. A piece ends where the number of meetings fills the budget.
    meetings = holders.offsets.diff()[columns].cumsum(0)
    piece_numbers = (meetings - 1) // max(1, blocks.MEMORY_BUDGET // 2 // _BYTES_PER_MEMBER)
    lengths = torch.unique_consecutive(piece_numbers, return_counts=True)[1].tolist()
    for piece in torch.split(torch.arange(len(columns), device=columns.device), lengths):
        owners, others = _unroll(holders.offsets, columns[piece])
        owners = piece[owners]
        cells = queries[owners] * num_gallery + holders.columns[others]
        shared.index_add_(0, cells, torch.minimum(values[owners], holders.values[others]))
    return shared.view(-1, num_gallery)


def _row_offsets(rows: Tensor, num_rows: int) -> Tensor:
    """(num_rows + 1,) where each row begins among its ascending numbers ``rows``."""
    return torch.searchsorted(rows, torch.arange(num_rows + 1, device=rows.device))


def _unroll(offsets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """All entries of some sparse rows in turn: position in ``rows``, and number of the entry."""
    lengths = offsets.diff()[rows]
    owners = torch.arange(len(rows), device=rows.device).repeat_interleave(lengths)
    shift = offsets[rows] - (lengths.cumsum(0) - lengths)
    return owners, torch.arange(len(owners), device=rows.device) + shift[owners]


def _reciprocal_keys(lists: Tensor, k1: int) -> Tensor:
    """Ascending numbers i N + j, one for each j in R*(i)."""
    forward, near = lists[:, : k1 + 1], lists[:, : round(k1 / 2) + 1]
    mutual, near_mutual = _mutual(forward), _mutual(near)
    width, near_width = forward.shape[1], near.shape[1]
    row_bytes = width * near_width * (width + _BYTES_PER_MEMBER)
    keys = []
    for rows in blocks.row_blocks(len(lists), row_bytes):
        candidates, is_reciprocal = forward[rows], mutual[rows]
        others, is_near = near[candidates], near_mutual[candidates]  # (rows, width, near_width)
        own = candidates.masked_fill(~is_reciprocal, -1)
        common = (others[..., None] == own[:, None, None, :]).any(dim=3) & is_near
        joins = is_reciprocal & (3 * common.sum(dim=2) > 2 * is_near.sum(dim=2))
        members = torch.cat([candidates, others.flatten(1)], dim=1)
        is_member = torch.cat([is_reciprocal, (is_near & joins[..., None]).flatten(1)], dim=1)
        items = torch.arange(rows.start, rows.stop, device=lists.device)[:, None]
        keys.append(torch.unique((items * len(lists) + members)[is_member]))
    return torch.cat(keys)


def _mutual(lists: Tensor) -> Tensor:
    """(N, k) bool: whether item i is in the list of the item at lists[i, a]."""
    items = torch.arange(len(lists), device=lists.device)[:, None, None]
    parts = blocks.row_blocks(len(lists), 9 * lists.shape[1] ** 2)
    return torch.cat([(lists[lists[rows]] == items[rows]).any(dim=2) for rows in parts])


def _pair_similarities(features: Tensor, neighbors: Neighbors, rows: Tensor, columns: Tensor) -> Tensor:
    """(P,) similarity of items rows[p] and columns[p], read from the lists if it is in them."""
    result = features.new_empty(len(rows))
    pair_bytes = 2 * features.shape[1] * features.element_size() + 24 * neighbors.indices.shape[1]
    for part in blocks.row_blocks(len(rows), pair_bytes):
        items, others = rows[part], columns[part]
        is_listed = neighbors.indices[items] == others[:, None]
        values = (neighbors.similarities[items] * is_listed).sum(dim=1)
        missing = (~is_listed.any(dim=1)).nonzero()[:, 0]
        values[missing] = torch.linalg.vecdot(features[items[missing]], features[others[missing]])
        result[part] = values
    return result
