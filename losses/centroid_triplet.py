"""Centroid triplet loss: leave-one-out centroids of the batch as triplet partners."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from losses.base import check_batch
from losses.mining import HardestPairs, MinedLoss, MiningLoss, mean_over_valid, triplet_losses
from utils.distance import Metric, at_least_float32, distances_from_products
from utils.group_means import mean_weights


class LeaveOneOut(NamedTuple):
    """The N leave-one-out queries of a batch of N images, and their groups.

    Image i is the query of its group; its centroid is the mean of the other images of its identity. Group k
    holds the k-th image of each identity that has one, so two members of a group differ in identity.

    Attributes:
        weights: (N, N) row i times the embeddings is the centroid of query i; a row of zeros if it has none.
        has_centroid: (N,) bool, the identity of image i has another image.
        rivals: (N, N) bool, i and j are different members of one group.
    """

    weights: Tensor
    has_centroid: Tensor
    rivals: Tensor


def leave_one_out(ids: Tensor, dtype: torch.dtype = torch.float32) -> LeaveOneOut:
    """Groups and centroid weights of a batch in any order, with any number of images per identity.

    Args:
        ids: (N,) integer.
        dtype: of the weights.
    """
    same = ids[:, None] == ids[None, :]
    position = same.tril(-1).sum(1)
    rivals = (position[:, None] == position[None, :]).fill_diagonal_(False)
    others = same.fill_diagonal_(False).to(dtype)
    return LeaveOneOut(mean_weights(others), same.any(1), rivals)


class CentroidTripletLoss(MiningLoss):
    """Batch-hard triplets among queries and the leave-one-out centroids of their identities.

    For each k, the k-th image of every identity is a query and the mean of its other images a centroid; all
    of them are anchors and candidates of a batch-hard triplet loss. The loss is the mean over the groups k of
    the mean over the group's anchors that have a positive and a negative; a group without one does not count,
    and a batch without one gives zero, still with a graph.

    An identity with fewer images than others takes part, as query and as centroid, only in the groups for which it
    has an image. An identity with a single image is a query, hence a negative, and has no centroid.

    Centroids are linear in the embeddings, so every distance follows from the N x N inner products of the
    embeddings, and the centroids are never computed. Computed in float32 at least. Arguments:
    :class:`losses.mining.MiningLoss`; the statistics also hold ``centroid_norm``, the mean norm of the centroids.

    Wieczorek, Rychalska, Dabrowski: On the Unreasonable Effectiveness of Centroids in Image Retrieval, 2021.
    """

    def compute(self, embeddings: Tensor, ids: Tensor) -> MinedLoss:
        """The loss of embeddings (N, D) and ids (N,), and the hardest pairs (2, N) of queries and centroids."""
        check_batch(embeddings, ids)
        embeddings = at_least_float32(embeddings)
        groups = leave_one_out(ids, embeddings.dtype)
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            pairs = _mine(embeddings, groups, self.distance)
            losses = triplet_losses(pairs, self.margin).sum(0)
            members = (groups.rivals & pairs.valid).sum(1) + 1
            # Each group's shares add up to 1, so their sum is the number of groups that count.
            shares = pairs.valid.to(losses.dtype) / members
            loss = (losses * shares).sum() / (2.0 * shares.sum().clamp_min(1.0))
        return MinedLoss(loss, pairs, partial(_centroid_norm, embeddings, groups))


def _mine(embeddings: Tensor, groups: LeaveOneOut, metric: Metric) -> HardestPairs:
    """Hardest pairs (2, N): of the queries, then of the centroids."""
    if metric != "cosine":
        # A common shift does not change distances, and smaller vectors lose fewer digits in the differences below.
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
    # In a group, the only positive of a query is its own centroid, and the other way round.
    valid = groups.has_centroid & rivals.any(1)
    positive = to_centroids.diagonal().masked_fill(~valid, 0.0)
    return HardestPairs(positive.expand_as(nearest), nearest.masked_fill(~valid, 0.0), valid)


def _nearest(distances: Tensor, mask: Tensor) -> Tensor:
    return distances.masked_fill(mask, torch.inf).amin(1)


@torch.no_grad()
def _centroid_norm(embeddings: Tensor, groups: LeaveOneOut) -> dict[str, Tensor]:
    with torch.autocast(device_type=embeddings.device.type, enabled=False):
        norms = (groups.weights @ embeddings).norm(dim=1)
        return {"centroid_norm": mean_over_valid(norms, groups.has_centroid)}
