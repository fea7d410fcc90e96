"""Batch-hard triplet loss."""

from torch import Tensor

from losses.base import check_batch
from losses.mining import MinedLoss, MiningLoss, hardest_pairs, mean_over_valid, pair_masks, triplet_losses
from utils.distance import distance_matrix


class BatchHardTripletLoss(MiningLoss):
    """Each image against its farthest positive and its nearest negative in the batch.

    The mean runs over the anchors that have a positive (another image of their identity) and a negative;
    without any such anchor the loss is zero and still has a graph. Computed in float32 at least. Arguments:
    :class:`losses.mining.MiningLoss`.

    Hermans, Beyer, Leibe: In Defense of the Triplet Loss for Person Re-Identification, 2017.
    """

    def compute(self, embeddings: Tensor, ids: Tensor) -> MinedLoss:
        """The loss of embeddings (N, D) and ids (N,), and the hardest pairs."""
        check_batch(embeddings, ids)
        pairs = hardest_pairs(distance_matrix(embeddings, embeddings, self.distance), pair_masks(ids))
        return MinedLoss(mean_over_valid(triplet_losses(pairs, self.margin), pairs.valid), pairs)
