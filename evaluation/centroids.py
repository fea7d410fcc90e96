"""Centroid retrieval: the gallery as one mean feature per identity, under honest rules (protocol ``centroid``).

The procedure behind the published figures of 2021, which flatters a model, is :mod:`evaluation.ctl2021`.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from evaluation.ranking import RankingResult, rank
from evaluation.retrieval.distances import DistanceBlocks
from evaluation.retrieval.inputs import Retrieval
from evaluation.retrieval.scores import Pairs, SameIdentity
from utils.blocks import row_blocks
from utils.group_means import group_means, mean_weights

_SHARE = 2**-6  # of the memory budget: 4 MiB; larger blocks are no faster, and leave the cache
# Added to the distance of a query's own centroid: larger than the rounding error of a product of some thousand terms,
# smaller than any meaningful difference in this precision.
_TOLERANCE: Final = {torch.float32: 1e-6, torch.float64: 1e-12}


def rank_centroids(retrieval: Retrieval, *, camera_rule: bool = True) -> RankingResult:
    """Rank identity centroids by their cosine distance.

    A query of person p from camera c meets one centroid per identity, the mean over its gallery images (after the
    BNNeck, before normalization). The centroid of p leaves out the images of c; if none remain, the query is not
    counted. Each distractor (id 0) stays an item of its own. So a counted query has one match, its AP is 1 / rank,
    and mAP = mINP.

    An item counts as nearer than the own centroid if it is at most 1e-6 (1e-12 for float64 features) farther: means
    of equal vectors differ in their last bits, and a match must not gain from a tie.

    Beside the budget this function holds one vector per (identity, camera), one per identity and one per distractor.

    Args:
        retrieval: query and gallery.
        camera_rule: leave the images of the query's camera out of the own centroid.

    Returns:
        Figures as in instance retrieval; ``num_gallery`` counts identities and distractors.

    Raises:
        ReidError: if no query has a match.
    """
    by_camera = CameraMeans(retrieval.gallery, retrieval.gallery_ids, retrieval.gallery_cameras)
    items = retrieval.with_gallery(*_identities_and_distractors(retrieval, by_camera))
    own_groups = SameIdentity(retrieval.query_ids, by_camera.ids)
    own_item = SameIdentity(retrieval.query_ids, items.gallery_ids)

    def members(rows: slice) -> tuple[Tensor, Tensor]:
        """Groups of each query's person, and which of them count in the own centroid."""
        groups, exists = own_groups(rows)
        if camera_rule:
            exists = exists & (by_camera.cameras[groups] != retrieval.query_cameras[rows, None])
        return groups, exists

    def has_members(rows: slice, positions: Tensor) -> Tensor:
        return members(rows)[1].any(1, keepdim=True).expand_as(positions)

    def with_own_centroids(blocks: Iterable[tuple[slice, Tensor]]) -> Iterator[tuple[slice, Tensor]]:
        tolerance = _TOLERANCE[items.gallery.dtype]
        for rows, distances in blocks:
            column, exists = own_item(rows)
            centroids = by_camera.centroids(*members(rows))[:, None]
            # Only the change is computed again, so a centroid that does not change keeps its exact distance.
            change = F.normalize(items.gallery[column], dim=2) - F.normalize(centroids, dim=2)
            change = (F.normalize(retrieval.query[rows])[:, None] * change).sum(2).to(distances.dtype)
            own_distances = distances.gather(1, column) + torch.where(exists, change + tolerance, 0.0)
            yield rows, distances.scatter_(1, column, own_distances)

    pairs = Pairs(own_item, has_members if camera_rule else None)
    # Beside its scores a query needs two centroids and their change.
    extra_bytes = pairs.scoring_bytes + 8 * retrieval.query.shape[1] * retrieval.query.dtype.itemsize
    return rank(pairs, with_own_centroids(DistanceBlocks(items).blocks(extra_bytes)))


def _identities_and_distractors(retrieval: Retrieval, by_camera: "CameraMeans") -> tuple[Tensor, Tensor]:
    """Vectors (I, D) and ids (I,) of all items: the mean of each identity, then each distractor."""
    identities = torch.unique(by_camera.ids)
    means = by_camera.centroids(*SameIdentity(identities, by_camera.ids)(slice(None)))
    is_distractor = retrieval.gallery_ids == 0
    vectors = torch.cat([means, retrieval.gallery[is_distractor].to(means.dtype)])
    return vectors, torch.cat([identities, retrieval.gallery_ids[is_distractor]])


class CameraMeans:
    """Mean feature of each (identity, camera); distractors (identity 0) have none.

    A centroid without one camera is the weighted mean of the means of the others: no digits cancel in a subtraction,
    and each image is read once, however many queries leave out a camera.

    Attributes:
        ids: (K,) int64 identity of each group, ascending.
        cameras: (K,) int64 camera of each group.
        means: (K, D) mean features.
        counts: (K,) images in each, dtype of ``means``.
    """

    def __init__(self, features: Tensor, ids: Tensor, cameras: Tensor) -> None:
        is_person = ids > 0
        self.ids, self.cameras, group = unique_pairs(ids[is_person], cameras[is_person])
        num_groups = len(self.ids)
        # Distractors form one more group, which is dropped: to select the others would copy the features.
        groups = torch.full_like(ids, num_groups).masked_scatter(is_person, group)
        means, counts = group_means(features, groups, num_groups + 1)
        self.means, self.counts = means[:num_groups], counts[:num_groups]

    def centroids(self, groups: Tensor, is_member: Tensor) -> Tensor:
        """Means over the images of several groups.

        Args:
            groups: (N, C) positions of groups.
            is_member: (N, C) bool, which of them count.

        Returns:
            (N, D) in the dtype of ``means``, zero where no group counts. The sum is in float64, so centroids of
            equal float32 features are equal, whichever cameras they leave out.
        """
        weights = mean_weights((self.counts[groups] * is_member).double())
        result = self.means.new_empty(len(groups), self.means.shape[1])
        per_centroid = (self.means.dtype.itemsize + 8) * self.means.shape[1] * (groups.shape[1] + 1)
        for rows in row_blocks(len(groups), per_centroid, _SHARE):
            members = self.means[groups[rows]].double()
            result[rows] = torch.bmm(weights[rows, None], members)[:, 0].to(result.dtype)
        return result


def unique_pairs(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct pairs of two label vectors, sorted by the first one, then the second.

    Args:
        first: (N,) int64.
        second: (N,) int64.

    Returns:
        First and second labels (K,) of the distinct pairs, and the pair (N,) that each row belongs to.
    """
    first_labels, first_index = np.unique(first.cpu().numpy(), return_inverse=True)
    second_labels, second_index = np.unique(second.cpu().numpy(), return_inverse=True)
    pairs, index = np.unique(first_index * len(second_labels) + second_index, return_inverse=True)
    columns = (first_labels[pairs // len(second_labels)], second_labels[pairs % len(second_labels)], index)
    firsts, seconds, group = (torch.from_numpy(column).to(first.device) for column in columns)
    return firsts, seconds, group
