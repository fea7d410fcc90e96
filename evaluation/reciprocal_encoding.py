"""k-reciprocal sets of all items, and their members weighted by distance."""

import torch
from torch import Tensor

from evaluation.neighbours import Neighbours
from evaluation.sparse_rows import BYTES_PER_MEMBER, SparseRows, row_offsets
from utils.blocks import row_blocks

SMALLEST_UNIT = 1e-12
"""Least unit of distance: where all items are equal every distance is 0, not 0 / 0."""


def encode(features: Tensor, found: Neighbours, k1: int) -> SparseRows:
    """Steps 2 and 3 of :mod:`evaluation.rerank`: V over the expanded reciprocal sets.

    Args:
        features: (N, D) rows of length 1.
        found: the nearest of them for each, at least k1 + 1 where there are so many.
        k1: neighbours in which items must find each other.
    """
    keys = _reciprocal_keys(found.indices, k1)
    rows, columns = keys // len(features), keys % len(features)
    unit = (1.0 - found.lowest).clamp_min_(SMALLEST_UNIT)
    distances = (1.0 - _pair_similarities(features, found, rows, columns)) / unit[rows]
    weights = distances.clamp_(0.0, 1.0).neg_().exp_()
    sums = torch.zeros_like(unit).index_add_(0, rows, weights)
    return SparseRows(row_offsets(rows, len(features)), columns, weights / sums[rows])


def _reciprocal_keys(lists: Tensor, k1: int) -> Tensor:
    """Ascending numbers i N + j, one for each j in R*(i)."""
    forward, near = lists[:, : k1 + 1], lists[:, : round(k1 / 2) + 1]
    mutual, near_mutual = _mutual(forward), _mutual(near)
    width, near_width = forward.shape[1], near.shape[1]
    row_bytes = width * near_width * (width + BYTES_PER_MEMBER)
    keys = []
    for rows in row_blocks(len(lists), row_bytes):
        candidates, chosen = forward[rows], mutual[rows]
        added, kept = near[candidates], near_mutual[candidates]  # (rows, width, near_width)
        own = candidates.masked_fill(~chosen, -1)
        common = (added[..., None] == own[:, None, None, :]).any(dim=3) & kept
        accepted = chosen & (3 * common.sum(dim=2) > 2 * kept.sum(dim=2))
        members = torch.cat([candidates, added.flatten(1)], dim=1)
        taken = torch.cat([chosen, (kept & accepted[..., None]).flatten(1)], dim=1)
        items = torch.arange(rows.start, rows.stop, device=lists.device)[:, None]
        keys.append(torch.unique((items * len(lists) + members)[taken]))
    return torch.cat(keys)


def _mutual(lists: Tensor) -> Tensor:
    """(N, k) bool: whether item i stands in the list of the item at lists[i, a]."""
    items = torch.arange(len(lists), device=lists.device)[:, None, None]
    parts = row_blocks(len(lists), 9 * lists.shape[1] ** 2)
    return torch.cat([(lists[lists[rows]] == items[rows]).any(dim=2) for rows in parts])


def _pair_similarities(features: Tensor, found: Neighbours, rows: Tensor, columns: Tensor) -> Tensor:
    """(P,) similarity of items rows[p] and columns[p], read from the lists where it stands there."""
    result = features.new_empty(len(rows))
    pair_bytes = 2 * features.shape[1] * features.element_size() + 24 * found.indices.shape[1]
    for part in row_blocks(len(rows), pair_bytes):
        left, right = rows[part], columns[part]
        listed = found.indices[left] == right[:, None]
        values = (found.similarities[left] * listed).sum(dim=1)
        missing = (~listed.any(dim=1)).nonzero()[:, 0]
        values[missing] = torch.linalg.vecdot(features[left[missing]], features[right[missing]])
        result[part] = values
    return result
