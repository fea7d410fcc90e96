"""Hardest pairs of a batch, and the base class of the losses on them.

Masks fill tensors and are never an index, and no tensor decides a Python branch, so the host never waits for the
device.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from losses.base import LossWithStatistics
from utils.distance import Metric, check_metric
from utils.errors import ReidError


class PairMasks(NamedTuple):
    """Which rows of a batch form a pair.

    Attributes:
        positives: (N, N) bool, two different images of one identity.
        negatives: (N, N) bool, two images of different identities.
    """

    positives: Tensor
    negatives: Tensor


class HardestPairs(NamedTuple):
    """The hardest pairs of each anchor.

    Attributes:
        positive: (..., A) distance to the farthest positive, 0 where the anchor is not valid.
        negative: (..., A) distance to the nearest negative, 0 where the anchor is not valid.
        valid: (..., A) bool, broadcastable: the anchor has a positive and a negative.
    """

    positive: Tensor
    negative: Tensor
    valid: Tensor


class MinedLoss(NamedTuple):
    """What a mining loss computes on a batch.

    Attributes:
        loss: 0-d tensor with a graph.
        pairs: the pairs behind the loss.
        statistics: computes further figures for the log; called only if they are logged.
    """

    loss: Tensor
    pairs: HardestPairs
    statistics: Callable[[], dict[str, Tensor]] = dict


class MiningLoss(nn.Module):
    """Base class of the losses on hardest pairs; a subclass holds the mathematics in ``compute``.

    Args:
        margin: in the unit of the distance, >= 0; ``None`` for the soft margin.
        distance: ``euclidean``, ``sqeuclidean`` or ``cosine``.

    Raises:
        ReidError: for any other margin or distance.
    """

    compute: Callable[..., MinedLoss]

    def __init__(self, margin: float | None, distance: Metric = "euclidean") -> None:
        super().__init__()
        if margin is not None and not (math.isfinite(margin) and margin >= 0):
            raise ReidError(
                f"margin must be a finite number >= 0, or None for the soft margin, got {margin!r}; "
                "0.3 is usual for a triplet loss on raw features"
            )
        check_metric(distance)
        self.margin = margin
        self.distance = distance

    def forward(self, *batch: Tensor) -> Tensor:
        """Loss of a batch, 0-d.

        Args:
            batch: the arguments of ``compute``: embeddings (N, D) floating point, one matrix for each view of
                the loss, then ids (N,) integer in any order.

        Raises:
            ReidError: if shapes or types do not describe one batch.
        """
        return self.compute(*batch).loss

    def with_statistics(self, *batch: Tensor) -> LossWithStatistics:
        """The loss, :func:`pair_statistics` and further figures of the loss; it takes what ``forward`` takes."""
        loss, pairs, statistics = self.compute(*batch)
        return LossWithStatistics(loss, pair_statistics(pairs, self.margin) | statistics())

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"margin={self.margin}, distance={self.distance!r}"


def pair_masks(ids: Tensor) -> PairMasks:
    """Positive and negative pairs of a batch; an image forms no pair with itself.

    Args:
        ids: (N,) integer.
    """
    same = ids[:, None] == ids[None, :]
    negatives = ~same
    return PairMasks(same.fill_diagonal_(False), negatives)


def hardest_pairs(distances: Tensor, masks: PairMasks) -> HardestPairs:
    """Farthest positive and nearest negative of each anchor (batch-hard mining, Hermans et al. 2017).

    Args:
        distances: (..., A, C) from each anchor to each candidate.
        masks: (A, C) each.
    """
    valid = masks.positives.any(-1) & masks.negatives.any(-1)
    positive = distances.masked_fill(~masks.positives, -torch.inf).amax(-1)
    negative = distances.masked_fill(~masks.negatives, torch.inf).amin(-1)
    invalid = ~valid
    return HardestPairs(positive.masked_fill(invalid, 0.0), negative.masked_fill(invalid, 0.0), valid)


def triplet_losses(pairs: HardestPairs, margin: float | None) -> Tensor:
    """Loss of each anchor: ``max(0, positive - negative + margin)``, or its soft form.

    Args:
        pairs: the hardest pairs.
        margin: in the unit of the distances; ``None`` for ``log(1 + exp(positive - negative))``.

    Returns:
        (..., A), zero where the anchor is not valid.
    """
    difference = pairs.positive - pairs.negative
    losses = F.softplus(difference) if margin is None else F.relu(difference + margin)
    return losses.masked_fill(~pairs.valid, 0.0)


def mean_over_valid(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of ``values`` (A,), zero where not ``valid`` (A,), over the valid ones; 0 if there is none."""
    return values.sum() / valid.sum().clamp_min(1)


@torch.no_grad()
def pair_statistics(pairs: HardestPairs, margin: float | None) -> dict[str, Tensor]:
    """Figures that show whether the network can still learn from the hardest pairs.

    Returns:
        Means over the valid anchors (0 if there is none): ``hardest_positive`` and ``hardest_negative``
        distance, and ``active``, the share of triplets that violate the margin (a soft margin counts as 0).
    """
    valid = pairs.valid.expand_as(pairs.positive)
    active = (pairs.positive - pairs.negative + (margin or 0.0) > 0) & valid
    return {
        "hardest_positive": mean_over_valid(pairs.positive, valid),
        "hardest_negative": mean_over_valid(pairs.negative, valid),
        "active": mean_over_valid(active, valid),
    }
