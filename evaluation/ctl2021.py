"""Centroid retrieval as published in 2021 (protocol ``centroid_ctl2021``), to compare with published tables only.

The procedure behind the centroid figures of Wieczorek et al., On the Unreasonable Effectiveness of Centroids in
Image Retrieval (ICONIP 2021). It flatters a model: its wrong camera lookup and its missing distractors raise
every figure. Its definition, faults included:

1. The camera of gallery item j is read at position j of the query cameras followed by the gallery cameras: for
   j < Q it is the camera of query j, from there on that of gallery item j - Q, never its own. So the order of both
   sides matters.
2. For each identity p that has queries and each camera c among them, a centroid is the mean of p's gallery items
   whose camera, read this way, is not c; if no item remains, there is no such centroid. If no item of p reads as c,
   the centroid leaves out nothing; p has at most one such centroid.
3. Identities without a query, all distractors among them, have no centroid and leave the gallery.
4. A query (p, c) meets all centroids, except those of p with an item that reads as c. So the centroids of
   another person count several times, and a query whose camera is read nowhere in p may have several matches.
"""

import torch
from torch import Tensor

from evaluation.centroids import CameraMeans, unique_pairs
from evaluation.ranking import RankingResult, rank
from evaluation.retrieval.distances import DistanceBlocks
from evaluation.retrieval.inputs import Retrieval
from evaluation.retrieval.scores import Pairs, SameIdentity
from utils.errors import ReidError

_NO_CAMERA = -1


def rank_ctl2021(retrieval: Retrieval) -> RankingResult:
    """Rank the centroids of 2021 by their cosine distance, by the definition above.

    Args:
        retrieval: query and gallery.

    Returns:
        Figures as in instance retrieval; ``num_gallery`` counts centroids.

    Raises:
        ReidError: if there is no centroid.
    """
    query_cameras, read_cameras = _read_cameras(retrieval)
    by_camera = CameraMeans(retrieval.gallery, retrieval.gallery_ids, read_cameras)
    groups, exists = SameIdentity(retrieval.query_ids, by_camera.ids)(slice(None))
    is_read = (exists & (by_camera.cameras[groups] == query_cameras[:, None])).any(1)

    excluded_cameras = torch.where(is_read, query_cameras, torch.full_like(query_cameras, _NO_CAMERA))
    ids, excluded_cameras, _ = unique_pairs(retrieval.query_ids, excluded_cameras)
    groups, exists = SameIdentity(ids, by_camera.ids)(slice(None))
    is_member = exists & (by_camera.cameras[groups] != excluded_cameras[:, None])
    has_member = is_member.any(1)
    if not has_member.any():
        raise _no_centroid(retrieval)
    ids, excluded_cameras = ids[has_member], excluded_cameras[has_member]
    centroids = by_camera.centroids(groups[has_member], is_member[has_member])

    def has_no_item_of_the_camera(rows: slice, positions: Tensor) -> Tensor:
        return (excluded_cameras[positions] == query_cameras[rows, None]) | ~is_read[rows, None]

    items = retrieval.with_gallery(centroids, ids)
    pairs = Pairs(SameIdentity(retrieval.query_ids, ids), has_no_item_of_the_camera)
    # The queries that a centroid was built for meet it, so at least one of them has a match.
    return rank(pairs, DistanceBlocks(items).blocks(pairs.scoring_bytes))


def _read_cameras(retrieval: Retrieval) -> tuple[Tensor, Tensor]:
    """Cameras of the queries (Q,), and those read for the gallery (G,), numbered from 0."""
    cameras = torch.cat([retrieval.query_cameras, retrieval.gallery_cameras])
    numbers = torch.unique(cameras, return_inverse=True)[1]
    return numbers[: len(retrieval.query)], numbers[: len(retrieval.gallery)]


def _no_centroid(retrieval: Retrieval) -> ReidError:
    if torch.isin(retrieval.query_ids, retrieval.gallery_ids).any():
        return ReidError(
            "query_cameras and gallery_cameras, read by position, must leave a person an item, got none for "
            f"{len(retrieval.query)} queries; use the protocol centroid, which reads each item's own camera"
        )
    return ReidError("gallery_ids must hold the query's persons, got none; number both sides alike")
