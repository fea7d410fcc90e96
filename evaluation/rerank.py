"""Re-ranking with k-reciprocal encoding (Zhong, Zheng, Cao, Li, CVPR 2017), in bounded memory.

Let x be the Q queries followed by the G gallery items, N = Q + G, each of length 1.

1. d(i, j) = |x_i - x_j|^2 / max over all N items j' of |x_i - x_j'|^2, so each row has its own unit, as in
   the widely used implementation: d is not symmetric.
2. F(i, k): i itself and its k nearest items (equal ones by lower index). R(i, k): the items j of F(i, k)
   with i in F(j, k). R*(i): R(i, k1), joined with each R(c, k1/2), c in R(i, k1), more than two thirds of
   which lie in R(i, k1); k1/2 is rounded, halves to the even integer.
3. V(i, j) = exp(-d(i, j)) for j in R*(i), otherwise 0, each row divided by its sum.
4. Local query expansion: V(i) becomes the mean of V over the first k2 items of F(i), i itself included.
5. Jaccard distance J(i, j) = 1 - s / (2 - s) with s the sum over m of min(V(i, m), V(j, m)).
6. The result is (1 - lambda) J + lambda d, for queries against gallery items.

Only lists of neighbours and the non-zero entries of V are held. All of it is torch, on the inputs' device.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.neighbours import (
    DEFAULT_MEMORY_BUDGET,
    Features,
    Neighbours,
    blocks,
    check_count,
    check_features,
    full_precision,
    nearest_among,
    normalised,
    similarities,
)
from utils.errors import ReidError

_SMALLEST_UNIT = 1e-12  # all items equal: every distance is 0 then, not 0 / 0
_BYTES_PER_MEMBER = 64  # keys, their sort, and the arrays one entry of a sparse product passes through


class Reciprocal(NamedTuple):
    """Parameters of the re-ranking; the defaults are those of the paper for Market-1501.

    Attributes:
        k1: neighbours in which items must find each other.
        k2: items averaged in the local query expansion.
        lambda_value: weight of the original distance.
    """

    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3


class DistanceBlock(NamedTuple):
    """The distances of some queries to the whole gallery.

    Attributes:
        queries: slice of consecutive queries; consecutive blocks cover all of them in order.
        distances: (number of those queries, G) float32, on the device of the features.
    """

    queries: slice
    distances: Tensor


class _Sparse(NamedTuple):
    """Rows of non-zero entries: row r holds entries offsets[r] to offsets[r + 1]."""

    offsets: Tensor
    columns: Tensor
    values: Tensor


def k_reciprocal(
    query: Features,
    gallery: Features,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
    out: Tensor | NDArray[Any] | None = None,
) -> Tensor:
    """Re-ranked distances of all queries to all gallery items, as one matrix.

    A gallery smaller than ``k1`` or ``k2`` is no mistake: the lists then hold all N items. Features in
    float64 are computed in float64, all others in float32.

    References:
        Zhong, Zheng, Cao, Li, "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017.

    Args:
        query: (Q, D) floating point tensor or array, of any scale (cosine similarity is used).
        gallery: (G, D) the same, on the same device.
        k1: neighbours in which items must find each other, 1 or more.
        k2: items averaged in the local query expansion, the item itself included; 1 switches it off.
        lambda_value: weight of the original distance, from 0 (Jaccard only) to 1 (original only).
        memory_budget: bytes of working memory for one step, beside a normalised copy of the features, the
            sparse lists (in the order of 2 kB per item) and the result.
        out: (Q, G) float32 tensor or writable C-ordered array (also an ``np.memmap``) to write into; by
            default a new tensor on the device of the features.

    Returns:
        (Q, G) float32; shares its memory with ``out`` where that is given.

    Raises:
        ReidError: if the features are no two finite matrices of the same width and device, if a parameter
            is out of range, or if ``out`` does not fit.
    """
    query, gallery = check_features(query, gallery)
    target = _target((len(query), len(gallery)), out, query.device)
    for rows, distances in k_reciprocal_blocks(
        query, gallery, k1=k1, k2=k2, lambda_value=lambda_value, memory_budget=memory_budget
    ):
        target[rows] = distances.to(target.device)
    return target


def k_reciprocal_blocks(
    query: Features,
    gallery: Features,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> Iterator[DistanceBlock]:
    """The rows of :func:`k_reciprocal`, one block of queries after the other; arguments and errors as there.

    Arguments are checked at the call; the work begins with the first block asked for.
    """
    for name, value in {"k1": k1, "k2": k2, "memory_budget": memory_budget}.items():
        check_count(name, value)
    if not 0.0 <= lambda_value <= 1.0:
        raise ReidError(
            f"lambda_value must be from 0 (Jaccard only) to 1 (original distance only), got {lambda_value!r}"
        )
    query, gallery = check_features(query, gallery)
    return _blocks(normalised(query, gallery), len(query), k1, k2, lambda_value, memory_budget)


def _target(shape: tuple[int, int], out: Tensor | NDArray[Any] | None, device: torch.device) -> Tensor:
    if out is None:
        return torch.empty(shape, device=device)
    writable = isinstance(out, Tensor) or (out.flags.writeable and out.flags.c_contiguous)
    if tuple(out.shape) != shape or out.dtype not in (torch.float32, np.float32) or not writable:
        raise ReidError(
            f"out must be writable, C-ordered, float32 and of shape {shape} (queries, gallery), got "
            f"{tuple(out.shape)} of {out.dtype}: allocate it so, or leave it out"
        )
    return out if isinstance(out, Tensor) else torch.from_numpy(out)


def _blocks(
    features: Tensor, num_queries: int, k1: int, k2: int, lambda_value: float, memory_budget: int
) -> Iterator[DistanceBlock]:
    found = nearest_among(features, min(max(k1 + 1, k2), len(features)), memory_budget)
    encoding = _local_mean(_encode(features, found, k1, memory_budget), found.indices[:, :k2], memory_budget)
    holders = _gallery_holders(encoding, num_queries)
    gallery = features[num_queries:]
    unit = (1.0 - found.lowest[:num_queries, None]).clamp_min_(_SMALLEST_UNIT)
    # Half of the budget for four matrices of a block's shape, half for the pairs of entries they come from.
    row_bytes = 4 * len(gallery) * features.element_size()
    for rows in blocks(num_queries, row_bytes, memory_budget // 2):
        shared = _shared_weight(encoding, holders, rows, len(gallery), memory_budget // 2)
        distances = shared.div_(2.0 - shared).neg_().add_(1.0).mul_(1.0 - lambda_value)
        if lambda_value > 0.0:
            original = (1.0 - similarities(features[rows], gallery)).div_(unit[rows]).clamp_(0.0, 1.0)
            distances.add_(original, alpha=lambda_value)
        yield DistanceBlock(rows, distances.float())


def _encode(features: Tensor, found: Neighbours, k1: int, memory_budget: int) -> _Sparse:
    """Steps 2 and 3 of the module's list: V over the expanded reciprocal sets."""
    keys = _reciprocal_keys(found.indices, k1, memory_budget)
    rows, columns = keys // len(features), keys % len(features)
    unit = (1.0 - found.lowest).clamp_min_(_SMALLEST_UNIT)
    distances = (1.0 - _pair_similarities(features, found, rows, columns, memory_budget)) / unit[rows]
    weights = distances.clamp_(0.0, 1.0).neg_().exp_()
    sums = torch.zeros_like(unit).index_add_(0, rows, weights)
    return _Sparse(_offsets(rows, len(features)), columns, weights / sums[rows])


def _reciprocal_keys(lists: Tensor, k1: int, memory_budget: int) -> Tensor:
    """Ascending numbers i N + j, one for each j in R*(i)."""
    forward, near = lists[:, : k1 + 1], lists[:, : round(k1 / 2) + 1]
    mutual, near_mutual = _mutual(forward, memory_budget), _mutual(near, memory_budget)
    width, near_width = forward.shape[1], near.shape[1]
    row_bytes = width * near_width * (width + _BYTES_PER_MEMBER)
    keys = []
    for rows in blocks(len(lists), row_bytes, memory_budget):
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


def _mutual(lists: Tensor, memory_budget: int) -> Tensor:
    """(N, k) bool: whether item i stands in the list of the item at lists[i, a]."""
    items = torch.arange(len(lists), device=lists.device)[:, None, None]
    parts = blocks(len(lists), 9 * lists.shape[1] ** 2, memory_budget)
    return torch.cat([(lists[lists[rows]] == items[rows]).any(dim=2) for rows in parts])


def _pair_similarities(
    features: Tensor, found: Neighbours, rows: Tensor, columns: Tensor, memory_budget: int
) -> Tensor:
    """(P,) similarity of items rows[p] and columns[p], read from the lists where it stands there."""
    result = features.new_empty(len(rows))
    pair_bytes = 2 * features.shape[1] * features.element_size() + 24 * found.indices.shape[1]
    for part in blocks(len(rows), pair_bytes, memory_budget):
        left, right = rows[part], columns[part]
        listed = found.indices[left] == right[:, None]
        values = (found.similarities[left] * listed).sum(dim=1)
        missing = (~listed.any(dim=1)).nonzero()[:, 0]
        with full_precision(features):
            values[missing] = torch.linalg.vecdot(features[left[missing]], features[right[missing]])
        result[part] = values
    return result


def _local_mean(encoding: _Sparse, lists: Tensor, memory_budget: int) -> _Sparse:
    """Step 4: each row becomes the mean of the rows in its list (N, k2)."""
    num_items, k2 = lists.shape
    longest = int(encoding.offsets.diff().max())
    keys, values = [], []
    for rows in blocks(num_items, k2 * longest * _BYTES_PER_MEMBER, memory_budget):
        owners, entries = _unroll(encoding.offsets, lists[rows].flatten())
        items = owners // k2 + rows.start
        found, position = torch.unique(items * num_items + encoding.columns[entries], return_inverse=True)
        sums = encoding.values.new_zeros(len(found)).index_add_(0, position, encoding.values[entries])
        keys.append(found)
        values.append(sums / k2)
    merged = torch.cat(keys)
    return _Sparse(_offsets(merged // num_items, num_items), merged % num_items, torch.cat(values))


def _gallery_holders(encoding: _Sparse, num_queries: int) -> _Sparse:
    """The inverted index: row m holds the gallery items whose V has an entry at m, and those entries."""
    num_items, first = len(encoding.offsets) - 1, int(encoding.offsets[num_queries])
    lengths = encoding.offsets[num_queries:].diff()
    items = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    columns, order = encoding.columns[first:].sort(stable=True)
    return _Sparse(_offsets(columns, num_items), items[order], encoding.values[first:][order])


def _shared_weight(
    encoding: _Sparse, holders: _Sparse, rows: slice, num_gallery: int, memory_budget: int
) -> Tensor:
    """(len(rows), G) sums over m of min(V(i, m), V(j, m)), i a query of ``rows``, j a gallery item."""
    bounds = encoding.offsets[rows.start : rows.stop + 1]
    entries = slice(int(bounds[0]), int(bounds[-1]))
    columns, values = encoding.columns[entries], encoding.values[entries]
    queries = torch.arange(len(bounds) - 1, device=bounds.device).repeat_interleave(bounds.diff())
    shared = values.new_zeros((len(bounds) - 1) * num_gallery)
    # An entry meets every holder of its column. Cut where the number of meetings fills the budget.
    meetings = holders.offsets.diff()[columns].cumsum(0)
    piece_numbers = (meetings - 1) // max(1, memory_budget // _BYTES_PER_MEMBER)
    lengths = torch.unique_consecutive(piece_numbers, return_counts=True)[1].tolist()
    for piece in torch.split(torch.arange(len(columns), device=columns.device), lengths):
        owners, met = _unroll(holders.offsets, columns[piece])
        owners = piece[owners]
        cells = queries[owners] * num_gallery + holders.columns[met]
        shared.index_add_(0, cells, torch.minimum(values[owners], holders.values[met]))
    return shared.view(-1, num_gallery)


def _unroll(offsets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """All entries of the given sparse rows in turn: position in ``rows``, and number of the entry."""
    lengths = offsets.diff()[rows]
    owners = torch.arange(len(rows), device=rows.device).repeat_interleave(lengths)
    shift = offsets[rows] - (lengths.cumsum(0) - lengths)
    return owners, torch.arange(len(owners), device=rows.device) + shift[owners]


def _offsets(rows: Tensor, num_rows: int) -> Tensor:
    """(num_rows + 1,) where each row begins among its ascending numbers ``rows``."""
    return torch.searchsorted(rows, torch.arange(num_rows + 1, device=rows.device))
