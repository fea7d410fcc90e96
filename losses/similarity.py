"""Losses on the cosines of all pairs of a batch."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from losses.base import check_batch
from losses.mining import PairMasks, mean_over_valid, pair_masks
from utils.distance import distance_matrix
from utils.errors import ReidError

_NONE = -1e30  # the logarithm of nothing; infinity would give NaN in the gradient


class PairwiseCircleLoss(nn.Module):
    """Circle loss over pairs: each cosine is pushed towards its optimum, by as much as it is away from it.

    For each image, with cosines p to images of its identity and n to others:
    ``log(1 + sum exp(-g a_p (p - 1 + m)) * sum exp(g a_n (n - m)))``, with ``a_p = max(0, 1 + m - p)`` and
    ``a_n = max(0, n + m)`` as constants. The mean runs over the images that have both kinds of pairs.

    Sun et al.: Circle Loss: A Unified Perspective of Pair Similarity Optimization, CVPR 2020.

    Args:
        margin: m, 0 <= m < 1.
        scale: g > 0.

    Raises:
        ReidError: if an argument is outside its range.
    """

    def __init__(self, margin: float = 0.25, scale: float = 128.0) -> None:
        super().__init__()
        if not (0.0 <= margin < 1.0 and math.isfinite(scale) and scale > 0):
            raise ReidError(
                f"margin must be >= 0 and < 1 and scale > 0, got {margin!r} and {scale!r}; 0.25 and 128 are usual"
            )
        self.margin, self.scale = margin, scale

    def forward(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        """The loss of embeddings (N, D) and ids (N,), 0-d.

        Raises:
            ReidError: if shapes or types do not describe one batch.
        """
        cosines, masks = _cosines(embeddings, ids)
        constant = cosines.detach()
        positive = -(1.0 + self.margin - constant).clamp_min(0.0) * (cosines - 1.0 + self.margin)
        negative = (constant + self.margin).clamp_min(0.0) * (cosines - self.margin)
        losses = F.softplus(
            _log_sum(self.scale * positive, masks.positives) + _log_sum(self.scale * negative, masks.negatives)
        )
        return _mean(losses, masks)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"margin={self.margin:g}, scale={self.scale:g}"


class MultiSimilarityLoss(nn.Module):
    """Multi-similarity loss: pairs that others of the same image make hard, weighed by their cosines.

    A negative counts if its cosine plus ``mining`` is above the smallest of a positive, a positive if its cosine
    minus ``mining`` is below the largest of a negative. For each image, over the pairs that count:
    ``log(1 + sum exp(-a (p - t))) / a + log(1 + sum exp(b (n - t))) / b``. The mean runs over the images that have
    both kinds of pairs in the batch.

    Wang et al.: Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning, CVPR 2019.

    Args:
        threshold: t.
        positive_scale: a > 0.
        negative_scale: b > 0.
        mining: of cosines, >= 0.

    Raises:
        ReidError: if an argument is outside its range.
    """

    def __init__(
        self,
        threshold: float = 0.5,
        positive_scale: float = 2.0,
        negative_scale: float = 50.0,
        mining: float = 0.1,
    ) -> None:
        super().__init__()
        if not (positive_scale > 0 and negative_scale > 0 and mining >= 0 and math.isfinite(threshold)):
            raise ReidError(
                "positive_scale and negative_scale must be > 0, mining >= 0 and threshold finite, got "
                f"{positive_scale!r}, {negative_scale!r}, {mining!r} and {threshold!r}; 2, 50, 0.1 and 0.5 are usual"
            )
        self.threshold, self.mining = threshold, mining
        self.positive_scale, self.negative_scale = positive_scale, negative_scale

    def forward(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        """The loss of embeddings (N, D) and ids (N,), 0-d.

        Raises:
            ReidError: if shapes or types do not describe one batch.
        """
        cosines, masks = _cosines(embeddings, ids)
        constant = cosines.detach()
        lowest_positive = constant.masked_fill(~masks.positives, torch.inf).amin(1, keepdim=True)
        highest_negative = constant.masked_fill(~masks.negatives, -torch.inf).amax(1, keepdim=True)
        # Negated, so that NaN counts and shows in the loss.
        positives = masks.positives & ~(constant - self.mining >= highest_negative)
        negatives = masks.negatives & ~(constant + self.mining <= lowest_positive)
        excess = cosines - self.threshold
        losses = (
            F.softplus(_log_sum(-self.positive_scale * excess, positives)) / self.positive_scale
            + F.softplus(_log_sum(self.negative_scale * excess, negatives)) / self.negative_scale
        )
        return _mean(losses, masks)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return (
            f"threshold={self.threshold:g}, positive_scale={self.positive_scale:g}, "
            f"negative_scale={self.negative_scale:g}, mining={self.mining:g}"
        )


def _cosines(embeddings: Tensor, ids: Tensor) -> tuple[Tensor, PairMasks]:
    """The cosine of each pair of a batch, (N, N), and which pairs show one person."""
    check_batch(embeddings, ids)
    return 1.0 - distance_matrix(embeddings, embeddings, "cosine"), pair_masks(ids)


def _mean(losses: Tensor, masks: PairMasks) -> Tensor:
    """The mean of the losses (N,) of those images that have pairs of both kinds."""
    valid = masks.positives.any(1) & masks.negatives.any(1)
    return mean_over_valid(losses.masked_fill(~valid, 0.0), valid)


def _log_sum(values: Tensor, mask: Tensor) -> Tensor:
    """The logarithm of the sum of exponentials of the values (A, C) in the mask, (A,); very low where none is."""
    return values.masked_fill(~mask, _NONE).logsumexp(1)
