"""Octuplet loss: four batch-hard triplets across two resolutions of one batch."""

from collections.abc import Sequence

import torch
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
from utils.errors import ReidError

TERMS = ("hh", "hl", "lh", "ll")


class OctupletLoss(nn.Module):
    """Sum of batch-hard triplet terms on the distances between high- and low-resolution embeddings.

    Row i of both views shows the same image. In each term the first letter names the view of the anchor, the
    second that of its candidates: ``hl`` compares high-resolution anchors with low-resolution candidates. An
    image and its own low-resolution twin are no positive pair: the diagonal is excluded in all four blocks.
    The mean runs over the anchors with a positive and a negative, which are the same rows in each term;
    without any, the loss is zero and still has a graph. Computed in float32 at least.

    Knoche, Elkadeem, Hoermann, Rigoll: Octuplet Loss: Make Face Recognition Robust to Image Resolution, 2023.

    Args:
        margin: in the unit of the distance, >= 0; ``None`` for the soft margin.
        distance: ``euclidean``, ``sqeuclidean`` or ``cosine``.
        terms: which of ``hh``, ``hl``, ``lh``, ``ll`` to add up.

    Raises:
        ReidError: for any other margin, distance or term, and for a term given twice or none at all.
    """

    def __init__(
        self, margin: float | None = 25.0, distance: Metric = "euclidean", terms: Sequence[str] = TERMS
    ) -> None:
        super().__init__()
        check_margin(margin)
        check_metric(distance)
        if not terms or len(set(terms)) < len(terms) or not set(terms) <= set(TERMS):
            raise ReidError(
                f"terms must be one or more of {', '.join(TERMS)}, each once, got {terms!r}; "
                "leave it out for all four"
            )
        self.margin = margin
        self.distance = distance
        self.terms = tuple(terms)

    def forward(self, high: Tensor, low: Tensor, ids: Tensor, valid: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            high: (N, D) floating point, embeddings of the images as they are.
            low: (N, D) floating point, embeddings of the same images in low resolution.
            ids: (N,) integer identities.
            valid: (N,) bool, False for padding: neither anchor nor candidate.

        Returns:
            0-d tensor.

        Raises:
            ReidError: if shapes or types do not describe one batch.
        """
        return self._compute(high, low, ids, valid)[0]

    def with_statistics(
        self, high: Tensor, low: Tensor, ids: Tensor, valid: Tensor | None = None
    ) -> LossWithStatistics:
        """The loss, and the figures of :func:`losses.mining.pair_statistics` over all terms together."""
        loss, pairs = self._compute(high, low, ids, valid)
        return LossWithStatistics(loss, pair_statistics(pairs, self.margin))

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"margin={self.margin}, distance={self.distance!r}, terms={self.terms}"

    def _compute(self, high: Tensor, low: Tensor, ids: Tensor, valid: Tensor | None) -> tuple[Tensor, HardestPairs]:
        check_batch(high, ids, valid)
        if low.shape != high.shape:
            raise ReidError(
                "low must have the shape of high, one row for each image in both resolutions, "
                f"got {tuple(low.shape)} and {tuple(high.shape)}; embed both views of one batch"
            )
        blocks = self._blocks(without_padding(high, valid), without_padding(low, valid))
        pairs = hardest_pairs(blocks, pair_masks(ids, valid))
        return mean_over_defined(triplet_losses(pairs, self.margin).sum(0), pairs.defined), pairs

    def _blocks(self, high: Tensor, low: Tensor) -> Tensor:
        """Distances (T, N, N): anchors in rows, candidates in columns, one block for each term."""
        views = {"h": high, "l": low}
        blocks: dict[str, Tensor] = {}
        for term in self.terms:
            mirrored = blocks.get(term[::-1])
            if mirrored is None:
                blocks[term] = distance_matrix(views[term[0]], views[term[1]], self.distance)
            else:
                blocks[term] = mirrored.T
        return torch.stack(list(blocks.values()))
