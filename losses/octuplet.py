"""Octuplet loss: four batch-hard triplets across two resolutions of one batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from losses.base import check_batch
from losses.mining import MinedLoss, MiningLoss, hardest_pairs, mean_over_valid, pair_masks, triplet_losses
from utils.distance import Metric, distance_matrix
from utils.errors import ReidError

RESOLUTION_PAIRS = ("hh", "hl", "lh", "ll")


class OctupletLoss(MiningLoss):
    """Sum of batch-hard triplet terms on the distances between high- and low-resolution embeddings.

    Row i of both views shows the same image. In each term the first letter names the view of the anchor, the
    second that of its candidates: ``hl`` compares high-resolution anchors with low-resolution candidates. An
    image and its own low-resolution view are not a positive pair: the diagonal is excluded in all four blocks.
    The mean runs over the anchors with a positive and a negative, which are the same rows in each term; without any
    such anchor the loss is zero and still has a graph. Computed in float32 at least.

    Knoche, Elkadeem, Hoermann, Rigoll: Octuplet Loss: Make Face Recognition Robust to Image Resolution, 2023.

    Args:
        margin: in the unit of the distance, >= 0; ``None`` for the soft margin.
        distance: ``euclidean``, ``sqeuclidean`` or ``cosine``.
        terms: which of ``hh``, ``hl``, ``lh``, ``ll`` to add up.

    Raises:
        ReidError: for any other margin, distance or term, for a repeated term, and without any term.
    """

    def __init__(
        self, margin: float | None = 25.0, distance: Metric = "euclidean", terms: Sequence[str] = RESOLUTION_PAIRS
    ) -> None:
        super().__init__(margin, distance)
        if not terms or len(set(terms)) < len(terms) or not set(terms) <= set(RESOLUTION_PAIRS):
            raise ReidError(
                f"terms must be one or more of {', '.join(RESOLUTION_PAIRS)}, each once, got {terms!r}; "
                "leave the argument out for all four"
            )
        self.terms = tuple(terms)

    def compute(self, high: Tensor, low: Tensor, ids: Tensor) -> MinedLoss:
        """The loss, and the hardest pairs of all terms.

        Args:
            high: (N, D) floating point, embeddings of the images as they are.
            low: (N, D) floating point, embeddings of the same images in low resolution.
            ids: (N,) integer identities.
        """
        check_batch(high, ids)
        if low.shape != high.shape:
            raise ReidError(
                "low must have the shape of high, one row for each image in both resolutions, "
                f"got {tuple(low.shape)} and {tuple(high.shape)}; embed both views of one batch"
            )
        pairs = hardest_pairs(self._distances(high, low), pair_masks(ids))
        return MinedLoss(mean_over_valid(triplet_losses(pairs, self.margin).sum(0), pairs.valid), pairs)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{super().extra_repr()}, terms={self.terms}"

    def _distances(self, high: Tensor, low: Tensor) -> Tensor:
        """(T, N, N): anchors in rows, candidates in columns, one block for each term."""
        views = {"h": high, "l": low}
        blocks: dict[str, Tensor] = {}
        for term in self.terms:
            transpose = blocks.get(term[::-1])
            if transpose is None:
                blocks[term] = distance_matrix(views[term[0]], views[term[1]], self.distance)
            else:
                blocks[term] = transpose.T
        return torch.stack(list(blocks.values()))
