"""Mean vector of each group of rows: identity centroids, in the loss and in the evaluation."""

from typing import NamedTuple

import torch
from torch import Tensor

from utils.blocks import blocks_of, rows_per_chunk
from utils.errors import ReidError


class GroupMeans(NamedTuple):
    """One mean per group.

    Attributes:
        means: (G, D) float32 (float64 where the input is); zero for an empty group.
        counts: (G,) number of rows in each mean, same dtype as ``means``.
    """

    means: Tensor
    counts: Tensor


def group_means(vectors: Tensor, groups: Tensor, num_groups: int, valid: Tensor | None = None) -> GroupMeans:
    """Mean of the rows of each group, differentiable and without a host-device synchronization.

    The sums are taken in float64, so that the mean of equal float32 vectors is that vector, and a few rows at
    a time, so that no wider copy of ``vectors`` is made. Rows that are not valid enter no mean and get no
    gradient, whatever they hold (NaN included).

    Args:
        vectors: (N, D) floating point.
        groups: (N,) integers in ``[0, num_groups)``; the values are not checked, which would need a sync.
        num_groups: G, the number of groups.
        valid: (N,) bool, True for the rows that count; all rows where None.

    Returns:
        Means (G, D) and counts (G,).

    Raises:
        ReidError: if the shapes do not fit one another.
    """
    _check_shapes(vectors, groups, valid)
    dtype = torch.promote_types(vectors.dtype, torch.float32)
    index = groups.long()
    sums = vectors.new_zeros(num_groups, vectors.shape[1], dtype=torch.float64)
    counts = vectors.new_zeros(num_groups, dtype=torch.float64)
    for part in blocks_of(len(vectors), rows_per_chunk(vectors.shape[1])):
        rows = vectors[part].double()
        weights = rows.new_ones(len(rows))
        if valid is not None:
            weights = valid[part].double()
            rows = rows.masked_fill(~valid[part, None], 0.0)
        sums = sums.index_add_(0, index[part], rows)
        counts = counts.index_add_(0, index[part], weights)
    return GroupMeans(_per_member(sums, counts).to(dtype), counts.to(dtype))


def mean_weights(memberships: Tensor) -> Tensor:
    """Weights whose product with the members' vectors is the mean of each group.

    It serves means that are never computed (the loss works on inner products), and means of other means; a membership
    is then the number of rows behind each.

    Args:
        memberships: (..., N) floating point, how many times each of N vectors counts in a group, 0 or more.

    Returns:
        (..., N), each row divided by its sum; a row of zeros, an empty group, stays zero.
    """
    return _per_member(memberships, memberships.sum(-1))


def _per_member(totals: Tensor, counts: Tensor) -> Tensor:
    """Rows of ``totals`` (..., N) divided by ``counts`` (...), those of empty groups by one."""
    return totals / counts.clamp_min(1.0)[..., None]


def _check_shapes(vectors: Tensor, groups: Tensor, valid: Tensor | None) -> None:
    if vectors.ndim != 2:
        raise ReidError(f"vectors must be (N, D), got {tuple(vectors.shape)}; flatten each item to one row")
    for name, labels in (("groups", groups), ("valid", valid)):
        if labels is not None and labels.shape != vectors.shape[:1]:
            raise ReidError(
                f"{name} must have one entry per row of vectors ({len(vectors)},), "
                f"got {tuple(labels.shape)}; pass it for the same batch"
            )
