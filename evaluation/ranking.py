"""Instance retrieval: mAP, mINP and CMC under the Market-1501 protocol, exact and in bounded memory.

Protocol (Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015): for a query of person p
from camera c the gallery items of p from c are removed; a query left without a match is not counted. CMC-k is
the share of counted queries with a match among the first k; the average precision (AP) of a query is the mean
of the precision at each match (not the trapezoid rule of the original MATLAB code); mINP (Ye et al., Deep
Learning for Person Re-identification: A Survey and Outlook, TPAMI 2022) is the mean of matches / rank of the
last match. At a tie every item that is no match comes first, so no order of the gallery changes a figure.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evaluation.distance_blocks import DistanceBlocks, bytes_per_query
from evaluation.features import Features, as_tensor, check_not_empty
from evaluation.inputs import Labels, check_inputs, check_labels
from evaluation.match_ranks import Keep, OwnItems, QueryScores, score_queries
from utils.blocks import row_blocks
from utils.distance import Metric
from utils.errors import ReidError
from utils.precision import full_precision

CMC_RANKS: tuple[int, ...] = (1, 5, 10, 20, 50)


@dataclass(frozen=True, eq=False)
class RankingResult:
    """Retrieval quality of one set of features; rates are in [0, 1].

    Attributes:
        mAP: mean of ``average_precision`` over the valid queries.
        mINP: mean of (matches / rank of the last match) over the valid queries.
        cmc: share of the valid queries with a match among the first k, for k = 1, 5, 10, 20, 50.
        average_precision: (Q,) float64; NaN for a query without a match.
        first_match_rank: (Q,) int64, rank of the nearest match counted from 1; 0 without a match.
        num_queries: Q.
        num_valid_queries: queries with at least one match, over which the means are taken.
        num_gallery: items each query was compared with, the removed ones included.
    """

    mAP: float  # noqa: N815 (the field's own name for it)
    mINP: float  # noqa: N815
    cmc: dict[int, float]
    average_precision: np.ndarray
    first_match_rank: np.ndarray
    num_queries: int
    num_valid_queries: int
    num_gallery: int


def evaluate_ranking(  # noqa: PLR0913 (two sides of three arrays each are the problem itself)
    query: Features,
    gallery: Features,
    query_ids: Labels,
    gallery_ids: Labels,
    query_cameras: Labels,
    gallery_cameras: Labels,
    *,
    metric: Metric = "cosine",
    camera_rule: bool = True,
) -> RankingResult:
    """Rank the gallery for each query and report mAP, mINP and CMC.

    Nothing of the size (Q, G) is held: queries are taken in blocks that fit :data:`utils.blocks.MEMORY_BUDGET`,
    one row at least, which is G x 4 bytes (40 MB for ten million items). The gallery is not copied. The product
    runs in full float32 (float64 for float64 features) on the gallery's device; only items nearer to one
    another than its rounding may swap ranks against a float64 run. Features that lie together far from the
    origin have few digits left for the cosine: at a mean of 10 and a deviation of 0.1 per component mAP is off
    by about 1e-3, at 1 and 1 by 1e-6. Give such features as float64.

    Args:
        query: (Q, D) floating point, torch or numpy.
        gallery: (G, D) floating point; half precision is widened chunk by chunk.
        query_ids: (Q,) positive integers.
        gallery_ids: (G,) integers; 0 is a distractor, which matches nothing.
        query_cameras: (Q,) integers.
        gallery_cameras: (G,) integers.
        metric: ``cosine``, ``euclidean`` or ``sqeuclidean`` (the last two rank alike).
        camera_rule: remove the gallery items of the query's person from the query's camera.

    Raises:
        ReidError: for inputs that do not fit one another, features that are not finite, labels out of range,
            an unknown metric, or when no query has a match.
    """
    inputs = check_inputs(query, gallery, query_ids, gallery_ids, query_cameras, gallery_cameras)
    own = OwnItems(inputs.query_ids, inputs.gallery_ids)
    device, num_gallery = inputs.gallery.device, len(inputs.gallery)
    per_query = bytes_per_query(num_gallery, inputs.query.dtype, device, own.most)
    with full_precision(device):
        scores = score_queries(
            DistanceBlocks(inputs, metric).each(row_blocks(len(inputs.query), per_query)),
            own,
            camera_filter(inputs.query_cameras, inputs.gallery_cameras, camera_rule),
        )
    return summarise(scores, own, num_gallery, camera_rule)


def evaluate_distances(
    distances: Tensor | np.ndarray,
    query_ids: Labels,
    gallery_ids: Labels,
    query_cameras: Labels,
    gallery_cameras: Labels,
    *,
    camera_rule: bool = True,
) -> RankingResult:
    """The same figures from distances computed elsewhere, re-ranked ones for instance.

    Args:
        distances: (Q, G), smaller is nearer, any real dtype, torch or numpy; a memory map is read in blocks.
        query_ids: (Q,) positive integers.
        gallery_ids: (G,) integers; 0 is a distractor.
        query_cameras: (Q,) integers.
        gallery_cameras: (G,) integers.
        camera_rule: remove the gallery items of the query's person from the query's camera.

    Raises:
        ReidError: if the matrix and the labels do not fit, a distance is NaN, or no query has a match.
    """
    matrix = as_tensor(distances)
    if matrix.ndim != 2:
        raise ReidError(
            f"distances must be (Q, G), got {tuple(matrix.shape)}; pass a row per query, a column per item"
        )
    for side, length in zip(("query", "gallery"), matrix.shape, strict=True):
        check_not_empty(side, length)
    sizes = (matrix.shape[0], matrix.shape[1])
    given = check_labels(query_ids, gallery_ids, query_cameras, gallery_cameras, sizes)
    ids, item_ids, cameras, item_cameras = (labels.to(matrix.device) for labels in given)
    dtype = torch.promote_types(matrix.dtype, torch.float32) if matrix.is_floating_point() else torch.float64

    def load(rows: slice) -> Tensor:
        block = matrix[rows].to(dtype, copy=True)
        undefined = block.amax(1).isnan()
        if undefined.any():
            row = rows.start + int(undefined.int().argmax())
            raise ReidError(f"distances must not hold NaN, got one in row {row}; check the features behind it")
        return block

    own = OwnItems(ids, item_ids)
    per_query = bytes_per_query(sizes[1], dtype, matrix.device, own.most)
    blocks = row_blocks(sizes[0], per_query)
    loaded = ((rows, load(rows)) for rows in blocks)
    scores = score_queries(loaded, own, camera_filter(cameras, item_cameras, camera_rule))
    return summarise(scores, own, sizes[1], camera_rule)


def camera_filter(query_cameras: Tensor, item_cameras: Tensor, camera_rule: bool) -> Keep:
    """Which items of a query's own person are matches: those from another camera, or all without the rule."""

    def keep(rows: slice, positions: Tensor) -> Tensor:
        if not camera_rule:
            return torch.ones_like(positions, dtype=torch.bool)
        return item_cameras[positions] != query_cameras[rows, None]

    return keep


def summarise(scores: QueryScores, own: OwnItems, num_items: int, camera_rule: bool) -> RankingResult:
    """Means over the queries that have a match.

    Raises:
        ReidError: if none has one.
    """
    valid = scores.first_match_rank > 0
    num_valid = int(valid.sum())
    if num_valid == 0:
        if camera_rule and own.most > 0:
            raise ReidError(
                f"camera_rule leaves none of {len(valid)} queries a match: the gallery shows their persons "
                f"by the query's own camera only; pass camera_rule=False where one camera took everything"
            )
        raise ReidError(
            f"query_ids must occur in gallery_ids, got none of {len(valid)} queries with a match; "
            f"number the identities of both sides alike"
        )
    first = scores.first_match_rank[valid]
    return RankingResult(
        mAP=float(scores.average_precision[valid].mean()),
        mINP=float(scores.inverse_negative_penalty[valid].mean()),
        cmc={rank: float((first <= rank).mean()) for rank in CMC_RANKS},
        average_precision=scores.average_precision,
        first_match_rank=scores.first_match_rank,
        num_queries=len(valid),
        num_valid_queries=num_valid,
        num_gallery=num_items,
    )
