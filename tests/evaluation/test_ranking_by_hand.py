"""Rankings small enough to work out by hand."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from evaluation.ranking import evaluate_distances, evaluate_ranking


class Case(NamedTuple):
    query: np.ndarray
    gallery: np.ndarray
    query_ids: np.ndarray
    gallery_ids: np.ndarray
    query_cameras: np.ndarray
    gallery_cameras: np.ndarray


def perfect_case() -> Case:
    eye = np.eye(5, dtype=np.float32)
    ids = np.arange(1, 6)
    return Case(eye, eye.repeat(3, 0), ids, ids.repeat(3), np.zeros(5, int), np.tile([0, 1, 2], 5))


def test_a_perfect_ranking_gives_one_and_an_inverted_one_the_least_possible() -> None:
    case = perfect_case()
    best = evaluate_ranking(*case)
    assert (best.mAP, best.mINP, set(best.cmc.values())) == (1.0, 1.0, {1.0})
    worst = evaluate_ranking(*case._replace(query=-case.query))
    assert worst.mAP == pytest.approx((1 / 13 + 2 / 14) / 2)  # 12 others come first
    assert worst.mINP == pytest.approx(2 / 14)
    assert worst.cmc == {1: 0.0, 5: 0.0, 10: 0.0, 20: 1.0, 50: 1.0}


def test_a_match_never_gains_from_a_tie() -> None:
    case = perfect_case()
    result = evaluate_distances(np.zeros((5, 15)), *case[2:])
    assert result.first_match_rank.tolist() == [13] * 5
    assert result.average_precision == pytest.approx([(1 / 13 + 2 / 14) / 2] * 5)


def test_infinite_distances_rank_last_and_ties_among_them_do_not_help() -> None:
    distances = np.full((1, 4), np.inf)
    distances[0, 3] = 1.0
    result = evaluate_distances(distances, [1], [1, 1, 2, 3], [0], [1, 0, 1, 1])
    assert result.first_match_rank.tolist() == [3]


def test_an_infinitely_far_match_is_counted_alike_beside_a_query_with_more_images() -> None:
    # The second query has three images, so the first one's single image is padded to three in their block.
    distances = np.array([[np.inf, 1.0, 1.0, 1.0], [9.0, 1.0, 1.0, 1.0]])
    result = evaluate_distances(distances, [1, 2], [1, 2, 2, 2], [0, 0], [1] * 4)
    assert result.first_match_rank.tolist() == [4, 1]


def test_figures_of_a_case_worked_by_hand() -> None:
    # Query 1: kept items by distance: 2, [1], 2, [1]; its third item is its own camera's.
    # Query 2 (person 3) has a same-camera item only and is not counted.
    distances = [[0.2, 0.4, 0.1, 0.1, 0.3, 0.5], [0.1] * 6]
    ids, cameras = [1, 1, 1, 2, 2, 3], [1, 1, 0, 0, 0, 0]
    result = evaluate_distances(torch.tensor(distances), [1, 3], ids, [0, 0], cameras)
    assert result.mAP == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert result.mINP == pytest.approx(2 / 4)
    assert result.cmc == {1: 0.0, 5: 1.0, 10: 1.0, 20: 1.0, 50: 1.0}
    assert (result.num_queries, result.num_valid_queries, result.num_gallery) == (2, 1, 6)
    assert np.isnan(result.average_precision[1])
    assert result.first_match_rank.tolist() == [2, 0]


def test_one_item_far_out_does_not_cost_the_others_their_digits() -> None:
    # |g|^2 is 1e14 for the far item; the near two differ by 0.01 in squared distance.
    gallery = torch.tensor([[1.0, 0.1], [1.0, 0.0], [0.0, 1.0], [1e7, 0.0]])
    result = evaluate_ranking(
        torch.tensor([[1.0, 0.0]]), gallery, [1], [2, 1, 3, 0], [0], [1] * 4, metric="euclidean"
    )
    assert result.mAP == 1.0


def test_one_query_and_one_item() -> None:
    result = evaluate_ranking(torch.ones(1, 3), torch.ones(1, 3), [7], [7], [0], [1])
    assert (result.mAP, result.mINP, result.cmc[1], result.num_gallery) == (1.0, 1.0, 1.0, 1)
