"""Ranking by re-ranked distances, a block of queries at a time: the whole matrix is never held."""

from evaluation.features import Features, as_tensor
from evaluation.inputs import Labels, check_labels
from evaluation.match_ranks import OwnItems, score_queries
from evaluation.ranking import RankingResult, camera_filter, summarise
from evaluation.rerank import Reciprocal, k_reciprocal_blocks


def evaluate_reranked(  # noqa: PLR0913 (two sides of three arrays each are the problem itself)
    query: Features,
    gallery: Features,
    query_ids: Labels,
    gallery_ids: Labels,
    query_cameras: Labels,
    gallery_cameras: Labels,
    *,
    parameters: Reciprocal,
    camera_rule: bool = True,
) -> RankingResult:
    """:func:`evaluation.ranking.evaluate_ranking` by the distances of :func:`evaluation.rerank.k_reciprocal`.

    Args:
        query: (Q, D) floating point, torch or numpy.
        gallery: (G, D) floating point.
        query_ids: (Q,) positive integers.
        gallery_ids: (G,) integers; 0 is a distractor.
        query_cameras: (Q,) integers.
        gallery_cameras: (G,) integers.
        parameters: of the re-ranking.
        camera_rule: remove the gallery items of the query's person from the query's camera.

    Raises:
        ReidError: as the two functions above.
    """
    query, gallery = as_tensor(query), as_tensor(gallery)
    sizes = (len(query), len(gallery))
    given = check_labels(query_ids, gallery_ids, query_cameras, gallery_cameras, sizes)
    ids, item_ids, cameras, item_cameras = (labels.to(gallery.device) for labels in given)
    own = OwnItems(ids, item_ids)
    blocks = k_reciprocal_blocks(
        query, gallery, k1=parameters.k1, k2=parameters.k2, lambda_value=parameters.lambda_value
    )
    scores = score_queries(blocks, own, camera_filter(cameras, item_cameras, camera_rule))
    return summarise(scores, own, sizes[1], camera_rule)
