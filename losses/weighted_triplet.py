"""Weighted triplet loss: all pairs of an anchor, the hard ones with more weight."""

from torch import Tensor

from losses.base import check_batch
from losses.mining import HardestPairs, MinedLoss, MiningLoss, mean_over_valid, pair_masks, triplet_losses
from utils.distance import distance_matrix


class WeightedTripletLoss(MiningLoss):
    """A batch-hard triplet loss whose hardest pairs are softmax means over all pairs of the anchor.

    The weight of a positive is the softmax of the distances, that of a negative the softmax of the negated ones, both
    with their gradients. Arguments: :class:`losses.mining.MiningLoss`; the paper has the soft margin.

    Ye et al.: Deep Learning for Person Re-identification: A Survey and Outlook (AGW), TPAMI 2021.
    """

    def compute(self, embeddings: Tensor, ids: Tensor) -> MinedLoss:
        """The loss of embeddings (N, D) and ids (N,), and the mean pairs."""
        check_batch(embeddings, ids)
        distances, masks = distance_matrix(embeddings, embeddings, self.distance), pair_masks(ids)
        valid = masks.positives.any(-1) & masks.negatives.any(-1)
        positive, negative = _mean(distances, masks.positives, 1.0), _mean(distances, masks.negatives, -1.0)
        pairs = HardestPairs(positive.masked_fill(~valid, 0.0), negative.masked_fill(~valid, 0.0), valid)
        return MinedLoss(mean_over_valid(triplet_losses(pairs, self.margin), valid), pairs)


def _mean(distances: Tensor, mask: Tensor, sign: float) -> Tensor:
    """The mean (A,) of the distances (A, C) in the mask, each with its softmax as weight; 0 where there is none."""
    scores = (sign * distances).masked_fill(~mask, -1e30)  # not -inf: a row without any would give NaN
    weights = scores.softmax(1) * mask
    return (weights * distances).sum(1)
