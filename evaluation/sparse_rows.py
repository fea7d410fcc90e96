"""Rows of non-zero entries, and the sums over them that re-ranking needs, in bounded memory."""

from typing import NamedTuple

import torch
from torch import Tensor

from utils import blocks

BYTES_PER_MEMBER = 64
"""Keys, their sort, and the arrays one entry of a sparse product passes through."""


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


def row_offsets(rows: Tensor, num_rows: int) -> Tensor:
    """(num_rows + 1,) where each row begins among its ascending numbers ``rows``."""
    return torch.searchsorted(rows, torch.arange(num_rows + 1, device=rows.device))


def unroll(offsets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """All entries of the given sparse rows in turn: position in ``rows``, and number of the entry."""
    lengths = offsets.diff()[rows]
    owners = torch.arange(len(rows), device=rows.device).repeat_interleave(lengths)
    shift = offsets[rows] - (lengths.cumsum(0) - lengths)
    return owners, torch.arange(len(owners), device=rows.device) + shift[owners]


def local_mean(encoding: SparseRows, lists: Tensor) -> SparseRows:
    """Each row becomes the mean of the rows in its list (N, k)."""
    num_items, k = lists.shape
    longest = int(encoding.offsets.diff().max())
    keys, values = [], []
    for rows in blocks.row_blocks(num_items, k * longest * BYTES_PER_MEMBER):
        owners, entries = unroll(encoding.offsets, lists[rows].flatten())
        items = owners // k + rows.start
        found, position = torch.unique(items * num_items + encoding.columns[entries], return_inverse=True)
        sums = encoding.values.new_zeros(len(found)).index_add_(0, position, encoding.values[entries])
        keys.append(found)
        values.append(sums / k)
    merged = torch.cat(keys)
    return SparseRows(row_offsets(merged // num_items, num_items), merged % num_items, torch.cat(values))


def gallery_holders(encoding: SparseRows, num_queries: int) -> SparseRows:
    """The inverted index: row m holds the gallery items with an entry at column m, and those entries."""
    num_items, first = len(encoding.offsets) - 1, int(encoding.offsets[num_queries])
    lengths = encoding.offsets[num_queries:].diff()
    items = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    columns, order = encoding.columns[first:].sort(stable=True)
    return SparseRows(row_offsets(columns, num_items), items[order], encoding.values[first:][order])


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
    # An entry meets every holder of its column. Cut where the number of meetings fills the budget.
    meetings = holders.offsets.diff()[columns].cumsum(0)
    piece_numbers = (meetings - 1) // max(1, blocks.MEMORY_BUDGET // 2 // BYTES_PER_MEMBER)
    lengths = torch.unique_consecutive(piece_numbers, return_counts=True)[1].tolist()
    for piece in torch.split(torch.arange(len(columns), device=columns.device), lengths):
        owners, met = unroll(holders.offsets, columns[piece])
        owners = piece[owners]
        cells = queries[owners] * num_gallery + holders.columns[met]
        shared.index_add_(0, cells, torch.minimum(values[owners], holders.values[met]))
    return shared.view(-1, num_gallery)
