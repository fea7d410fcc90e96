"""Centroid retrieval: the gallery as one mean feature per identity, in two protocols that must not be mixed.

Both average features as given (after the BNNeck, before normalisation) and rank by the cosine distance.

- :func:`evaluate_centroids`, protocol ``centroid``: cameras are looked up correctly and distractors stay.
- :func:`evaluate_centroids_ctl2021`, protocol ``centroid_ctl2021``: the procedure behind the centroid figures
  of Wieczorek et al., On the Unreasonable Effectiveness of Centroids in Image Retrieval (ICONIP 2021), whose
  wrong camera lookup and missing distractors raise every figure.
"""

from dataclasses import replace
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from evaluation.camera_means import CameraMeans
from evaluation.distance_blocks import DistanceBlocks, bytes_per_query
from evaluation.inputs import Features, Labels, RetrievalInputs, check_inputs
from evaluation.match_ranks import OwnItems, score_queries
from evaluation.published_centroids import published_centroids
from evaluation.ranking import RankingResult, summarise
from utils.blocks import row_blocks
from utils.errors import ReidError
from utils.precision import full_precision

# Added to the distance of a query's own centroid. Beyond the rounding of a product of some thousand terms,
# below any difference that a feature of this precision can mean.
_TOLERANCE: Final = {torch.float32: 1e-6, torch.float64: 1e-12}


def evaluate_centroids(
    query: Features,
    gallery: Features,
    query_ids: Labels,
    gallery_ids: Labels,
    query_cameras: Labels,
    gallery_cameras: Labels,
    *,
    camera_rule: bool = True,
) -> RankingResult:
    """Retrieval against identity centroids, protocol ``centroid``.

    A query of person p from camera c meets one centroid per identity, the mean over all its gallery images,
    except that p's own is built without the images of c; where none is left the query is not counted. Each
    distractor (id 0) stays an item of its own. So a counted query has one match, its AP is 1 / rank, and
    mAP = mINP.

    An item as near as the own centroid up to 1e-6 (1e-12 for float64 features) counts as nearer: means of
    equal vectors differ in their last bits, and a tie must not help.

    Beside the budget this holds one vector per (identity, camera), one per identity and one per distractor.

    Args:
        query: (Q, D) floating point, torch or numpy.
        gallery: (G, D) floating point.
        query_ids: (Q,) positive integers.
        gallery_ids: (G,) integers; 0 is a distractor.
        query_cameras: (Q,) integers.
        gallery_cameras: (G,) integers.
        camera_rule: build the own centroid without the query's camera; from all cameras without the rule.

    Returns:
        Figures as in instance retrieval; ``num_gallery`` counts identities and distractors.

    Raises:
        ReidError: as :func:`evaluation.ranking.evaluate_ranking`.
    """
    inputs = check_inputs(query, gallery, query_ids, gallery_ids, query_cameras, gallery_cameras)
    with full_precision(inputs.gallery.device):
        by_camera = CameraMeans(inputs.gallery, inputs.gallery_ids, inputs.gallery_cameras)
        own_groups = OwnItems(inputs.query_ids, by_camera.ids)
        items = _with_items(inputs, *_identities_and_distractors(inputs, by_camera))
        own = OwnItems(inputs.query_ids, items.gallery_ids)
        public = DistanceBlocks(items, "cosine")
        tolerance = _TOLERANCE[items.gallery.dtype]

        def groups_of(rows: slice) -> tuple[Tensor, Tensor]:
            groups, kept = own_groups(rows)
            if camera_rule:
                kept = kept & (by_camera.cameras[groups] != inputs.query_cameras[rows, None])
            return groups, kept

        def load(rows: slice) -> Tensor:
            distances = public(rows)
            column, exists = own(rows)
            centroids = by_camera.centroids(*groups_of(rows))[:, None]
            # Only the change goes through another sum: the centroid that changes nothing keeps its distance.
            change = F.normalize(items.gallery[column], dim=2) - F.normalize(centroids, dim=2)
            change = (F.normalize(inputs.query[rows])[:, None] * change).sum(2).to(distances.dtype)
            nearest = distances.gather(1, column)
            return distances.scatter_(1, column, nearest + torch.where(exists, change + tolerance, 0.0))

        def keep(rows: slice, positions: Tensor) -> Tensor:
            return groups_of(rows)[1].any(1, keepdim=True).expand_as(positions)

        per_query = bytes_per_query(len(items.gallery), inputs.query.dtype, inputs.gallery.device, own.most)
        per_query += 8 * inputs.query.shape[1] * inputs.query.dtype.itemsize  # the two centroids, and their change
        blocks = row_blocks(len(inputs.query), per_query)
        scores = score_queries(((rows, load(rows)) for rows in blocks), own, keep)
    return summarise(scores, own, len(items.gallery), camera_rule)


def evaluate_centroids_ctl2021(
    query: Features,
    gallery: Features,
    query_ids: Labels,
    gallery_ids: Labels,
    query_cameras: Labels,
    gallery_cameras: Labels,
) -> RankingResult:
    """Retrieval against identity centroids as published in 2021, protocol ``centroid_ctl2021``.

    For comparison with published tables only: it flatters a model. Its definition, faults included:

    1. The camera of gallery item j is read at position j of the query cameras followed by the gallery
       cameras: for j < Q that of query j, from there on that of gallery item j - Q, never its own. The order
       of both sides matters.
    2. For each identity p that has queries and each camera c among them, a centroid is the mean of p's
       gallery items whose camera so read is not c, unless none is left. Where no item of p reads as c it
       leaves out nothing; p has one such centroid at most.
    3. Identities without a query, all distractors among them, have no centroid and leave the gallery.
    4. A query (p, c) meets all centroids, except those of p with an item that reads as c. So the centroids
       of another person count several times, and a query whose camera is read nowhere in p may have several
       matches.

    Args:
        query: (Q, D) floating point, torch or numpy.
        gallery: (G, D) floating point.
        query_ids: (Q,) positive integers.
        gallery_ids: (G,) integers; 0 is a distractor.
        query_cameras: (Q,) integers.
        gallery_cameras: (G,) integers.

    Returns:
        Figures as in instance retrieval; ``num_gallery`` counts centroids.

    Raises:
        ReidError: as :func:`evaluation.ranking.evaluate_ranking`.
    """
    inputs = check_inputs(query, gallery, query_ids, gallery_ids, query_cameras, gallery_cameras)
    with full_precision(inputs.gallery.device):
        centroids = published_centroids(inputs)
        if len(centroids.ids) == 0:
            raise _no_centroid(inputs)
        items = _with_items(inputs, centroids.vectors, centroids.ids)
        own = OwnItems(inputs.query_ids, centroids.ids)
        per_query = bytes_per_query(len(centroids.ids), inputs.query.dtype, inputs.gallery.device, own.most)
        blocks = row_blocks(len(inputs.query), per_query)
        scores = score_queries(DistanceBlocks(items, "cosine").each(blocks), own, centroids.keep)
    # Each centroid is met by the queries it was built for, so one of them at least has a match.
    return summarise(scores, own, len(centroids.ids), camera_rule=False)


def _identities_and_distractors(inputs: RetrievalInputs, by_camera: CameraMeans) -> tuple[Tensor, Tensor]:
    """Vectors (I, D) and ids (I,) of all items: the mean of each identity, then each distractor."""
    identities = torch.unique(by_camera.ids)
    alone = inputs.gallery_ids == 0
    means = by_camera.centroids(*OwnItems(identities, by_camera.ids)(slice(None)))
    vectors = torch.cat([means, inputs.gallery[alone].to(means.dtype)])
    return vectors, torch.cat([identities, inputs.gallery_ids[alone]])


def _no_centroid(inputs: RetrievalInputs) -> ReidError:
    if torch.isin(inputs.query_ids, inputs.gallery_ids).any():
        return ReidError(
            "query_cameras and gallery_cameras, read by position, must leave a person an item, got none for "
            f"{len(inputs.query)} queries; use the protocol centroid, which reads each item's own camera"
        )
    return ReidError("gallery_ids must hold the query's persons, got none; number both sides alike")


def _with_items(inputs: RetrievalInputs, vectors: Tensor, ids: Tensor) -> RetrievalInputs:
    """The same queries against other items, whose cameras have no meaning any more."""
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=1, dtype=inputs.query.dtype)
    return replace(
        inputs, gallery=vectors, gallery_norms=norms, gallery_ids=ids, gallery_cameras=torch.zeros_like(ids)
    )
