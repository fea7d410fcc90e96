"""Instance retrieval: mAP, mINP and CMC under the Market-1501 protocol, exact and in bounded memory.

Protocol (Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015): for a query of person p from
camera c the gallery items of p from c are removed; a query without a match after that is not counted.
CMC-k is the share of counted queries with a match among the first k; the average precision (AP) of a query is
the mean of the precision at each match (not the trapezoid rule of the original MATLAB code); mINP (Ye et al.,
Deep Learning for Person Re-identification: A Survey and Outlook, TPAMI 2022) is the mean of matches / rank of
the last match. At a tie every item that is not a match comes first, so the order of the gallery changes no figure.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from evaluation.retrieval.distances import DistanceBlocks
from evaluation.retrieval.inputs import FeatureArray, Labels, Retrieval
from evaluation.retrieval.scores import Pairs, score_queries
from utils.distance import Metric
from utils.errors import ReidError

CMC_RANKS: tuple[int, ...] = (1, 5, 10, 20, 50)


@dataclass(frozen=True, eq=False)
class RankingResult:
    """Retrieval quality of one set of features; rates are in [0, 1].

    Attributes:
        mAP: mean of ``average_precision`` over the valid queries.
        mINP: mean of (matches / rank of the last match) over the valid queries.
        cmc: share of the valid queries with a match among the first k, for k = 1, 5, 10, 20, 50.
        average_precision: (Q,) float64; NaN for a query without a match.
        inverse_negative_penalty: (Q,) float64, matches / rank of the last match; NaN for a query without a match.
        first_match_rank: (Q,) int64, rank of the nearest match counted from 1; 0 without a match.
        num_matches: (Q,) int64, matches of each query.
        num_queries: Q.
        num_valid_queries: queries with at least one match, over which the means are taken.
        num_gallery: items each query was compared with, the removed ones included.
    """

    mAP: float  # noqa: N815 (the field's own name for it)
    mINP: float  # noqa: N815
    cmc: dict[int, float]
    average_precision: np.ndarray
    inverse_negative_penalty: np.ndarray
    first_match_rank: np.ndarray
    num_matches: np.ndarray
    num_queries: int
    num_valid_queries: int
    num_gallery: int

    def curve(self) -> dict[int, float]:
        """CMC at every rank up to 50, or to the number of items."""
        first = self.first_match_rank[self.first_match_rank > 0]
        return {k: float((first <= k).mean()) for k in range(1, min(CMC_RANKS[-1], self.num_gallery) + 1)}


def evaluate_ranking(  # noqa: PLR0913 (two sides of three arrays each are the problem itself)
    query: FeatureArray,
    gallery: FeatureArray,
    query_ids: Labels,
    gallery_ids: Labels,
    query_cameras: Labels,
    gallery_cameras: Labels,
    *,
    metric: Metric = "cosine",
    camera_rule: bool = True,
) -> RankingResult:
    """Rank the gallery for each query and report mAP, mINP and CMC.

    No matrix of the size (Q, G) is held: queries are ranked in blocks that fit :data:`utils.blocks.MEMORY_BUDGET`,
    one row at least, which is G x 4 bytes (40 MB for ten million items). The gallery is not copied. The product
    runs in full float32 (float64 for float64 features) on the gallery's device; compared with a
    float64 run, only items whose distances differ by less than its rounding error may swap ranks. Features that lie
    together far from the origin have few digits left for the cosine: at a mean of 10 and a deviation of 0.1 per
    component mAP is off by about 1e-3, at 1 and 1 by 1e-6. Pass such features as float64.

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
    retrieval = Retrieval.of(query, gallery, query_ids, gallery_ids, query_cameras, gallery_cameras)
    pairs = retrieval.pairs(camera_rule)
    return rank(pairs, DistanceBlocks(retrieval, metric).blocks(pairs.scoring_bytes))


def rank(pairs: Pairs, blocks: Iterable[tuple[slice, Tensor]]) -> RankingResult:
    """Figures of the ranking by any distances.

    Args:
        pairs: the matches of each query.
        blocks: rows of the query, in order, each with their (rows, G) distances, or with values of the same order,
            which are overwritten.

    Raises:
        ReidError: if no query has a match.
    """
    scores = score_queries(pairs, blocks)
    is_valid = scores.first_match_rank > 0
    if not is_valid.any():
        raise _no_match(pairs, len(is_valid))
    first = scores.first_match_rank[is_valid]
    return RankingResult(
        mAP=float(scores.average_precision[is_valid].mean()),
        mINP=float(scores.inverse_negative_penalty[is_valid].mean()),
        cmc={k: float((first <= k).mean()) for k in CMC_RANKS},
        **scores._asdict(),
        num_queries=len(is_valid),
        num_valid_queries=len(first),
        num_gallery=pairs.same_identity.num_items,
    )


def _no_match(pairs: Pairs, num_queries: int) -> ReidError:
    if pairs.match_filter is not None and pairs.same_identity.largest_count:
        return ReidError(
            f"camera_rule leaves none of {num_queries} queries a match: the gallery shows their persons "
            f"by the query's own camera only; pass camera_rule=False where one camera took everything"
        )
    return ReidError(
        f"query_ids must occur in gallery_ids, got none of {num_queries} queries with a match; "
        f"number the identities of both sides alike"
    )
