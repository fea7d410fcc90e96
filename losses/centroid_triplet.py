"""Centroid triplet loss: leave-one-out centroids of the batch as triplet partners."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from losses.mining import (
    HardestPairs,
    LossWithStatistics,
    check_batch,
    check_margin,
    mean_over_defined,
    pair_statistics,
    triplet_losses,
    without_padding,
)
from utils.distance import Metric, at_least_float32, check_metric, distances_from_products
from utils.group_means import mean_weights


class LeaveOneOut(NamedTuple):
    """The N leave-one-out queries of a batch of N images, and how they fall into groups.

    Image i is the query of its group; its centroid is the mean of the other images of its identity. Group k
    holds the k-th image of each identity that has one, so two members of a group differ in identity.

    Attributes:
        weights: (N, N) row i times the embeddings is the centroid beside query i; a zero row if it has none.
        has_centroid: (N,) bool, the identity of image i has another image.
        rivals: (N, N) bool, i and j are different members of one group.
    """

    weights: Tensor
    has_centroid: Tensor
    rivals: Tensor


def leave_one_out(ids: Tensor, valid: Tensor | None = None, dtype: torch.dtype = torch.float32) -> LeaveOneOut:
    """Groups and centroid weights of a batch in any order, with any number of images per identity.

    Args:
        ids: (N,) integer.
        valid: (N,) bool, False for padding, which is in no group and no centroid.
        dtype: of the weights.
    """
    same = ids[:, None] == ids[None, :]
    if valid is not None:
        both = valid[:, None] & valid[None, :]
        same &= both
    position = same.tril(-1).sum(1)
    rivals = (position[:, None] == position[None, :]).fill_diagonal_(False)
    if valid is not None:
        rivals &= both
    others = same.fill_diagonal_(False).to(dtype)
    return LeaveOneOut(mean_weights(others), same.any(1), rivals)


class CentroidTripletLoss(nn.Module):
    """Batch-hard triplets among queries and the leave-one-out centroids of their identities.

    For each k, the k-th image of every identity is a query and the mean of its other images a centroid; all
    of them are anchors and candidates of a batch-hard triplet loss. The loss is the mean over the groups k of
    the mean over the group's anchors that have a positive and a negative; a group without one does not count,
    and a batch without one gives zero, still with a graph.

    An identity with fewer images than others takes part, as query and as centroid, in the groups for which it
    has an image, and in no other. One with a single image is a query, hence a negative, and has no centroid.

    Centroids are linear in the embeddings, so every distance follows from the N x N inner products of the
    embeddings and the centroids are never formed. Computed in float32 at least.

    Wieczorek, Rychalska, Dabrowski: On the Unreasonable Effectiveness of Centroids in Image Retrieval, 2021.

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
            ids: (N,) integer identities, in any order.
            valid: (N,) bool, False for padding: neither query nor part of a centroid.

        Returns:
            0-d tensor.

        Raises:
            ReidError: if shapes or types do not describe one batch.
        """
        return self._compute(embeddings, ids, valid)[0]

    def with_statistics(self, embeddings: Tensor, ids: Tensor, valid: Tensor | None = None) -> LossWithStatistics:
        """The loss, :func:`losses.mining.pair_statistics`, and ``centroid_norm``, the mean over centroids."""
        loss, pairs, groups = self._compute(embeddings, ids, valid)
        statistics = pair_statistics(pairs, self.margin)
        statistics["centroid_norm"] = _mean_centroid_norm(without_padding(embeddings, valid), groups)
        return LossWithStatistics(loss, statistics)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"margin={self.margin}, distance={self.distance!r}"

    def _compute(
        self, embeddings: Tensor, ids: Tensor, valid: Tensor | None
    ) -> tuple[Tensor, HardestPairs, LeaveOneOut]:
        check_batch(embeddings, ids, valid)
        embeddings = at_least_float32(without_padding(embeddings, valid))
        groups = leave_one_out(ids, valid, embeddings.dtype)
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            pairs = _mine(embeddings, groups, self.distance)
            losses = triplet_losses(pairs, self.margin).sum(0)
            defined = pairs.defined
            members = (groups.rivals & defined).sum(1) + 1
            # Each group's shares add up to 1, so their sum is the number of groups that count.
            shares = defined.to(losses.dtype) / members
            loss = (losses * shares).sum() / (2.0 * shares.sum().clamp_min(1.0))
        return loss, pairs, groups


def _mine(embeddings: Tensor, groups: LeaveOneOut, metric: Metric) -> HardestPairs:
    """Hardest pairs (2, N): of the queries, then of the centroids."""
    if metric != "cosine":
        # Distances do not feel a common shift; small vectors lose fewer digits in the differences below.
        embeddings = embeddings - embeddings.detach().mean(0)
    query_query = embeddings @ embeddings.T
    query_centroid = query_query @ groups.weights.T
    centroid_centroid = groups.weights @ query_centroid
    queries, centroids = query_query.diagonal(), centroid_centroid.diagonal()
    to_queries = distances_from_products(query_query, queries, queries, metric)
    to_centroids = distances_from_products(query_centroid, queries, centroids, metric)
    among_centroids = distances_from_products(centroid_centroid, centroids, centroids, metric)

    rivals = groups.rivals
    no_query, no_centroid = ~rivals, ~(rivals & groups.has_centroid)
    nearest = torch.stack(
        [
            torch.minimum(_nearest(to_queries, no_query), _nearest(to_centroids, no_centroid)),
            torch.minimum(_nearest(to_centroids.T, no_query), _nearest(among_centroids, no_centroid)),
        ]
    )
    # In a group, the one positive of a query is its own centroid, and the reverse.
    defined = groups.has_centroid & rivals.any(1)
    positive = to_centroids.diagonal().masked_fill(~defined, 0.0)
    return HardestPairs(positive.expand_as(nearest), nearest.masked_fill(~defined, 0.0), defined)


def _nearest(distances: Tensor, excluded: Tensor) -> Tensor:
    return distances.masked_fill(excluded, torch.inf).amin(1)


@torch.no_grad()
def _mean_centroid_norm(embeddings: Tensor, groups: LeaveOneOut) -> Tensor:
    with torch.autocast(device_type=embeddings.device.type, enabled=False):
        norms = (groups.weights @ at_least_float32(embeddings)).norm(dim=1)
        return mean_over_defined(norms, groups.has_centroid)
