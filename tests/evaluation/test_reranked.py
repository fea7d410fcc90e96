import numpy as np
import pytest
import torch

from evaluation.ranking import evaluate_distances
from evaluation.rerank import Reciprocal, k_reciprocal
from evaluation.reranked import evaluate_reranked
from utils.errors import ReidError


@pytest.mark.parametrize("camera_rule", [True, False])
def test_blocks_give_the_figures_of_the_whole_matrix(camera_rule: bool) -> None:
    rng = np.random.default_rng(0)
    query_ids, gallery_ids = rng.integers(1, 9, 25), rng.integers(0, 9, 70)
    cameras = rng.integers(1, 4, 25), rng.integers(1, 4, 70)
    centers = torch.randn(9, 16)
    query = centers[query_ids] + torch.randn(25, 16)
    gallery = centers[gallery_ids] + torch.randn(70, 16)
    parameters = Reciprocal(6, 3, 0.2)
    got = evaluate_reranked(
        query, gallery, query_ids, gallery_ids, *cameras, parameters=parameters, camera_rule=camera_rule
    )
    distances = k_reciprocal(query, gallery, k1=6, k2=3, lambda_value=0.2)
    expected = evaluate_distances(distances, query_ids, gallery_ids, *cameras, camera_rule=camera_rule)
    np.testing.assert_allclose(got.average_precision, expected.average_precision)
    assert got.cmc == expected.cmc
    assert got.num_gallery == 70


def test_no_match_is_the_evaluators_error() -> None:
    with pytest.raises(ReidError, match="camera_rule leaves none of 1 queries a match"):
        evaluate_reranked(torch.eye(2)[:1], torch.eye(2), [1], [1, 2], [1], [1, 1], parameters=Reciprocal())
