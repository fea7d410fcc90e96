"""Mean vector of each group of rows: identity centroids, in the loss and in the evaluation."""

from typing import NamedTuple

import torch
from torch import Tensor

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
    """Mean of the rows of each group, differentiable and without a host-device synchronisation.

    The sums are taken in float32 at least, also for half-precision input. Rows that are not valid enter no
    mean and get no gradient, whatever they hold (NaN included).

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
    with torch.autocast(device_type=vectors.device.type, enabled=False):
        rows = vectors if vectors.dtype == torch.float64 else vectors.float()
        weights = rows.new_ones(len(rows))
        if valid is not None:
            weights = valid.to(rows.dtype)
            rows = rows.masked_fill(~valid[:, None], 0.0)
        index = groups.long()
        sums = rows.new_zeros(num_groups, rows.shape[1]).index_add(0, index, rows)
        counts = rows.new_zeros(num_groups).index_add(0, index, weights)
        return GroupMeans(sums / counts.clamp_min(1.0)[:, None], counts)


def _check_shapes(vectors: Tensor, groups: Tensor, valid: Tensor | None) -> None:
    if vectors.ndim != 2:
        raise ReidError(f"vectors must be (N, D), got {tuple(vectors.shape)}; flatten each item to one row")
    for name, labels in (("groups", groups), ("valid", valid)):
        if labels is not None and labels.shape != vectors.shape[:1]:
            raise ReidError(
                f"{name} must have one entry per row of vectors ({len(vectors)},), "
                f"got {tuple(labels.shape)}; pass it for the same batch"
            )
