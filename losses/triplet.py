"""Batch-hard triplet loss."""

from torch import Tensor, nn

from losses.mining import (
    HardestPairs,
    LossWithStatistics,
    check_batch,
    check_margin,
    hardest_pairs,
    mean_over_defined,
    pair_masks,
    pair_statistics,
    triplet_losses,
    without_padding,
)
from utils.distance import Metric, check_metric, distance_matrix


class BatchHardTripletLoss(nn.Module):
    """Each image against its farthest positive and its nearest negative in the batch.

    The mean runs over the anchors that have a positive (another image of their identity) and a negative;
    without any such anchor the loss is zero and still has a graph. Computed in float32 at least.

    Hermans, Beyer, Leibe: In Defense of the Triplet Loss for Person Re-Identification, 2017.

    Args:
        margin: in the unit of the distance, >= 0; ``None`` for the soft margin.
        distance: ``euclidean``, ``sqeuclidean`` or ``cosine``.

    Raises:
        ReidError: for any other margin or distance.
    """

    def __init__(self, margin: float | None, distance: Metric = "euclidean") -> None:
        super().__init__()
        check_margin(margin)
        check_metric(distance)
        self.margin = margin
        self.distance = distance

    def forward(self, embeddings: Tensor, ids: Tensor, valid: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (N, D) floating point.
            ids: (N,) integer identities.
            valid: (N,) bool, False for padding: neither anchor nor candidate.

        Returns:
            0-d tensor.

        Raises:
            ReidError: if shapes or types do not describe one batch.
        """
        return self._compute(embeddings, ids, valid)[0]

    def with_statistics(self, embeddings: Tensor, ids: Tensor, valid: Tensor | None = None) -> LossWithStatistics:
        """The loss, and the figures of :func:`losses.mining.pair_statistics`; arguments as above."""
        loss, pairs = self._compute(embeddings, ids, valid)
        return LossWithStatistics(loss, pair_statistics(pairs, self.margin))

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"margin={self.margin}, distance={self.distance!r}"

    def _compute(self, embeddings: Tensor, ids: Tensor, valid: Tensor | None) -> tuple[Tensor, HardestPairs]:
        check_batch(embeddings, ids, valid)
        embeddings = without_padding(embeddings, valid)
        pairs = hardest_pairs(distance_matrix(embeddings, embeddings, self.distance), pair_masks(ids, valid))
        return mean_over_defined(triplet_losses(pairs, self.margin), pairs.defined), pairs
