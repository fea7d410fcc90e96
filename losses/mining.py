"""Hardest pairs of a batch: what every triplet-like loss here is made of.

Nothing in this module makes the host wait for the device: masks are compared and filled, never used as an
index, and no tensor decides a Python branch.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

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
        positive: (..., A) distance to the farthest positive, 0 where the anchor is not defined.
        negative: (..., A) distance to the nearest negative, 0 where the anchor is not defined.
        defined: (..., A) bool, broadcastable: the anchor has a positive and a negative.
    """

    positive: Tensor
    negative: Tensor
    defined: Tensor


class LossWithStatistics(NamedTuple):
    """A loss and what is worth logging about it.

    Attributes:
        loss: 0-d tensor with a graph.
        statistics: name -> detached 0-d tensor.
    """

    loss: Tensor
    statistics: dict[str, Tensor]


def check_margin(margin: float | None) -> None:
    """Refuse a margin that is neither a finite number >= 0 nor ``None``.

    Raises:
        ReidError: if it is anything else.
    """
    if margin is not None and not (math.isfinite(margin) and margin >= 0):
        raise ReidError(
            f"margin must be a finite number >= 0, or None for the soft margin, got {margin!r}; "
            "0.3 is usual for a triplet loss on raw features"
        )


def check_batch(embeddings: Tensor, ids: Tensor, valid: Tensor | None) -> None:
    """Refuse tensors that do not describe one batch. Looks at shapes and types only, never at values.

    Raises:
        ReidError: unless ``embeddings`` is (N, D) floating point with N >= 1, ``ids`` (N,) integer and
            ``valid`` (N,) bool or ``None``.
    """
    if embeddings.ndim != 2 or len(embeddings) == 0 or not embeddings.is_floating_point():
        raise ReidError(
            "embeddings must be a floating-point matrix (N, D) of at least one row, "
            f"got {_describe(embeddings)}; pass one row for each image"
        )
    rows = (len(embeddings),)
    if ids.shape != rows or ids.is_floating_point() or ids.dtype == torch.bool:
        raise ReidError(
            f"ids must be integers of shape {rows}, one for each embedding, got {_describe(ids)}; "
            "pass the identity label of each image"
        )
    if valid is not None and (valid.shape != rows or valid.dtype != torch.bool):
        raise ReidError(
            f"valid must be a bool mask of shape {rows}, one for each embedding, got {_describe(valid)}; "
            "pass True for an image, False for padding, or None if there is no padding"
        )


def without_padding(embeddings: Tensor, valid: Tensor | None) -> Tensor:
    """Embeddings with the padding rows set to zero, so that not even a NaN of theirs reaches the loss.

    Args:
        embeddings: (N, D) floating point.
        valid: (N,) bool, or ``None`` for no padding.

    Returns:
        (N, D); padding rows get a zero gradient.
    """
    return embeddings if valid is None else embeddings.masked_fill(~valid[:, None], 0.0)


def pair_masks(ids: Tensor, valid: Tensor | None = None) -> PairMasks:
    """Positive and negative pairs of a batch; padding belongs to neither, nor does an image with itself.

    Args:
        ids: (N,) integer.
        valid: (N,) bool, or ``None`` for no padding.
    """
    same = ids[:, None] == ids[None, :]
    negatives = ~same
    positives = same.fill_diagonal_(False)
    if valid is not None:
        both = valid[:, None] & valid[None, :]
        positives, negatives = positives & both, negatives & both
    return PairMasks(positives, negatives)


def hardest_pairs(distances: Tensor, masks: PairMasks) -> HardestPairs:
    """Farthest positive and nearest negative of each anchor (batch-hard mining, Hermans et al. 2017).

    Args:
        distances: (..., A, C) from each anchor to each candidate.
        masks: (A, C) each.
    """
    defined = masks.positives.any(-1) & masks.negatives.any(-1)
    positive = distances.masked_fill(~masks.positives, -torch.inf).amax(-1)
    negative = distances.masked_fill(~masks.negatives, torch.inf).amin(-1)
    undefined = ~defined
    return HardestPairs(positive.masked_fill(undefined, 0.0), negative.masked_fill(undefined, 0.0), defined)


def triplet_losses(pairs: HardestPairs, margin: float | None) -> Tensor:
    """Loss of each anchor: ``max(0, positive - negative + margin)``, or its soft form.

    Args:
        pairs: the hardest pairs.
        margin: in the unit of the distances; ``None`` for ``log(1 + exp(positive - negative))``.

    Returns:
        (..., A), zero where the anchor is not defined.
    """
    difference = pairs.positive - pairs.negative
    losses = F.softplus(difference) if margin is None else F.relu(difference + margin)
    return losses.masked_fill(~pairs.defined, 0.0)


def mean_over_defined(values: Tensor, defined: Tensor) -> Tensor:
    """Mean of ``values`` (A,), zero where not ``defined`` (A,), over the defined ones; 0 if there is none."""
    return values.sum() / defined.sum().clamp_min(1)


@torch.no_grad()
def pair_statistics(pairs: HardestPairs, margin: float | None) -> dict[str, Tensor]:
    """Figures that show whether mining still finds something to learn from.

    Returns:
        Means over the defined anchors (0 if there is none): ``hardest_positive`` and ``hardest_negative``
        distance, and ``active``, the share of triplets that violate the margin (a soft margin counts as 0).
    """
    defined = pairs.defined.expand_as(pairs.positive)
    active = (pairs.positive - pairs.negative + (margin or 0.0) > 0) & defined
    return {
        "hardest_positive": mean_over_defined(pairs.positive, defined),
        "hardest_negative": mean_over_defined(pairs.negative, defined),
        "active": mean_over_defined(active, defined),
    }


def _describe(tensor: Tensor) -> str:
    return f"shape {tuple(tensor.shape)} of {tensor.dtype}"
