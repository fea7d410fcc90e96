from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.ranking import RankingResult, evaluate_ranking, rank
from evaluation.retrieval.inputs import Retrieval
from tests.reference.ranking import Case, float64_distances, plain_ranking, realistic_case
from tests.support import memory_budget
from utils.distance import METRICS
from utils.errors import ReidError

ROWS_ONE_BY_ONE = 1


def rank_distances(distances: object, labels: tuple, camera_rule: bool = True) -> RankingResult:
    """Rank by a whole matrix (Q, G), in blocks of two queries."""
    matrix = torch.as_tensor(distances)
    features = torch.zeros(matrix.shape[0], 1), torch.zeros(matrix.shape[1], 1)
    pairs = Retrieval.of(*features, *labels).pairs(camera_rule)
    blocks = ((slice(start, start + 2), matrix[start : start + 2].clone()) for start in range(0, len(matrix), 2))
    return rank(pairs, blocks)


def assert_equal(result: RankingResult, reference: dict[str, object], tolerance: float = 1e-12) -> None:
    assert result.num_valid_queries == reference["num_valid_queries"]
    assert result.mAP == pytest.approx(reference["mAP"], abs=tolerance)
    assert result.mINP == pytest.approx(reference["mINP"], abs=tolerance)
    assert result.cmc == pytest.approx(reference["cmc"], abs=tolerance)
    np.testing.assert_allclose(result.average_precision, reference["average_precision"], atol=tolerance)
    np.testing.assert_allclose(result.inverse_negative_penalty, reference["inverse_negative_penalty"], atol=tolerance)
    np.testing.assert_array_equal(result.first_match_rank, reference["first_match_rank"])
    np.testing.assert_array_equal(result.num_matches, reference["num_matches"])


def draw_case(seed: int, num_query: int, num_gallery: int, num_ids: int, tied: bool) -> Case:
    """Random labels with distractors. Rounding must not decide a rank: features are float64, or ``tied``.

    Tied ones have norm 2 and few values, so that float32 products are exact and many distances equal.
    """
    rng = np.random.default_rng(seed)

    def features(count: int) -> np.ndarray:
        if not tied:
            return rng.standard_normal((count, 8))
        rows = np.zeros((count, 6), dtype=np.float32)
        for row in rows:
            row[rng.choice(6, 4, replace=False)] = rng.choice([-1.0, 1.0], 4)
        return rows

    return Case(
        features(num_query),
        features(num_gallery),
        rng.integers(1, num_ids + 1, num_query),
        rng.integers(0, num_ids + 1, num_gallery),
        rng.integers(0, 3, num_query),
        rng.integers(0, 3, num_gallery),
    )


cases = st.builds(
    draw_case, st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 60), st.integers(1, 6), st.booleans()
)


def ranked_or_none(evaluate: Callable[[], RankingResult]) -> RankingResult | None:
    try:
        return evaluate()
    except ReidError:
        return None


@settings(max_examples=150, deadline=None)
@given(cases, st.sampled_from(METRICS), st.booleans(), st.sampled_from([ROWS_ONE_BY_ONE, 2000, 2**28]))
def test_equals_the_plain_loop(case: Case, metric: str, camera_rule: bool, budget: int) -> None:
    reference = plain_ranking(float64_distances(case, metric), case, camera_rule)
    with memory_budget(budget):
        result = ranked_or_none(lambda: evaluate_ranking(*case, metric=metric, camera_rule=camera_rule))
    assert (result is None) == (reference["num_valid_queries"] == 0)
    if result is not None:
        assert_equal(result, reference)


@settings(max_examples=60, deadline=None)
@given(cases, st.booleans())
def test_distances_give_the_figures_of_the_plain_loop(case: Case, camera_rule: bool) -> None:
    distances = float64_distances(case, "cosine").round(2)
    reference = plain_ranking(distances, case, camera_rule)
    result = ranked_or_none(lambda: rank_distances(distances, case[2:], camera_rule))
    assert (result is None) == (reference["num_valid_queries"] == 0)
    if result is not None:
        assert_equal(result, reference)


@settings(max_examples=40, deadline=None)
@given(cases, st.randoms(use_true_random=False))
def test_permuting_the_gallery_changes_nothing(case: Case, random: object) -> None:
    order = np.array(random.sample(range(len(case.gallery)), len(case.gallery)))  # type: ignore[attr-defined]
    shuffled = case._replace(
        gallery=case.gallery[order],
        gallery_ids=case.gallery_ids[order],
        gallery_cameras=case.gallery_cameras[order],
    )
    before = ranked_or_none(lambda: evaluate_ranking(*case, metric="sqeuclidean"))
    after = ranked_or_none(lambda: evaluate_ranking(*shuffled, metric="sqeuclidean"))
    assert (before is None) == (after is None)
    if before is not None and after is not None:
        np.testing.assert_array_equal(before.first_match_rank, after.first_match_rank)
        np.testing.assert_array_equal(before.average_precision, after.average_precision)


@settings(max_examples=40, deadline=None)
@given(cases)
def test_a_far_distractor_changes_nothing(case: Case) -> None:
    far = case._replace(
        gallery=np.concatenate([case.gallery, np.full((1, case.gallery.shape[1]), 1e3, dtype=case.gallery.dtype)]),
        gallery_ids=np.append(case.gallery_ids, 0),
        gallery_cameras=np.append(case.gallery_cameras, 0),
    )
    before = ranked_or_none(lambda: evaluate_ranking(*case, metric="euclidean"))
    after = ranked_or_none(lambda: evaluate_ranking(*far, metric="euclidean"))
    assert (before is None) == (after is None)
    if before is not None and after is not None:
        assert (after.mAP, after.mINP, after.cmc) == (before.mAP, before.mINP, before.cmc)
        assert after.num_gallery == before.num_gallery + 1


def without_near_ties(case: Case, distances: np.ndarray, smallest_gap: float) -> tuple[Case, np.ndarray]:
    """Only the queries with no item of another person within the rounding of float32 of a match."""
    is_own = case.query_ids[:, None] == case.gallery_ids
    gaps = [
        np.abs(row[own][:, None] - row[~own]).min(initial=np.inf) for row, own in zip(distances, is_own, strict=True)
    ]
    clear = np.array(gaps) > smallest_gap
    filtered = case._replace(
        query=case.query[clear], query_ids=case.query_ids[clear], query_cameras=case.query_cameras[clear]
    )
    return filtered, distances[clear]


@pytest.mark.parametrize("metric", METRICS)
def test_float32_equals_a_float64_loop(metric: str) -> None:
    case = realistic_case(3)
    distances = float64_distances(case, metric)
    result = evaluate_ranking(*case, metric=metric)
    reference = plain_ranking(distances, case)
    assert 0.1 < result.mAP < 0.95
    assert result.mAP == pytest.approx(reference["mAP"], abs=1e-6)
    clear, clear_distances = without_near_ties(case, distances, 1e-6 * float(np.median(distances)))
    assert len(clear.query) > 50
    assert_equal(evaluate_ranking(*clear, metric=metric), plain_ranking(clear_distances, clear))


def test_blocks_tensors_arrays_and_layouts_agree() -> None:
    case = realistic_case(4)
    reference = evaluate_ranking(*case)
    tensors = [torch.from_numpy(array) for array in case]
    strided = np.asfortranarray(case.gallery[::-1])[::-1]
    reversed_view = np.ascontiguousarray(case.query[::-1])[::-1]
    with memory_budget(ROWS_ONE_BY_ONE):
        one_by_one = evaluate_ranking(*case)
    for result in (
        evaluate_ranking(*tensors),
        evaluate_ranking(*case[:2], *(array.tolist() for array in case[2:])),
        one_by_one,
        evaluate_ranking(reversed_view, strided, *(array.astype(np.int32) for array in case[2:])),
    ):
        assert result.mAP == pytest.approx(reference.mAP, abs=1e-6)
        assert result.cmc == pytest.approx(reference.cmc, abs=1e-6)


def test_inputs_are_left_untouched() -> None:
    case = realistic_case(7)
    case = case._replace(query=case.query.astype(np.float64), gallery=case.gallery.astype(np.float64))
    copies = [array.copy() for array in case]
    evaluate_ranking(*case)
    evaluate_ranking(*case, metric="euclidean")
    for array, copy in zip(case, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_a_read_only_memory_map_is_read_in_blocks(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    case = realistic_case(8)
    np.save(tmp_path / "gallery.npy", case.gallery)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    with memory_budget(ROWS_ONE_BY_ONE):
        result = evaluate_ranking(case.query, mapped, *case[2:])
    assert result.mAP == pytest.approx(evaluate_ranking(*case).mAP, abs=1e-6)
    assert not recwarn.list


def test_a_half_precision_gallery_ranks_as_its_widened_copy() -> None:
    case = realistic_case(5)
    half = torch.from_numpy(case.gallery).half()
    query = torch.from_numpy(case.query)
    narrow, wide = evaluate_ranking(query, half, *case[2:]), evaluate_ranking(query, half.float(), *case[2:])
    assert narrow.mAP == pytest.approx(wide.mAP, abs=1e-6)


def test_euclidean_ranks_do_not_feel_where_the_origin_lies() -> None:
    case = realistic_case(7)
    far = case._replace(query=case.query / 10 + 10, gallery=case.gallery / 10 + 10)
    distances = ((far.query[:, None].astype(float) - far.gallery[None]) ** 2).sum(-1)
    reference = rank_distances(distances, far[2:]).mAP
    assert evaluate_ranking(*far, metric="euclidean").mAP == pytest.approx(reference, abs=1e-5)


def test_neither_autocast_nor_a_lowered_product_precision_enters() -> None:
    case = realistic_case(6)
    reference = evaluate_ranking(*case).mAP
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            tensors = [torch.from_numpy(case.query).requires_grad_(), torch.from_numpy(case.gallery)]
            result = evaluate_ranking(*tensors, *case[2:])
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert result.mAP == reference


def perfect_case() -> Case:
    eye = np.eye(5, dtype=np.float32)
    ids = np.arange(1, 6)
    return Case(eye, eye.repeat(3, 0), ids, ids.repeat(3), np.zeros(5, int), np.tile([0, 1, 2], 5))


def test_a_perfect_ranking_gives_one_and_an_inverted_one_the_least() -> None:
    case = perfect_case()
    best = evaluate_ranking(*case)
    assert (best.mAP, best.mINP, set(best.cmc.values())) == (1.0, 1.0, {1.0})
    worst = evaluate_ranking(*case._replace(query=-case.query))
    assert worst.mAP == pytest.approx((1 / 13 + 2 / 14) / 2)  # 12 others come first
    assert worst.mINP == pytest.approx(2 / 14)
    assert worst.cmc == {1: 0.0, 5: 0.0, 10: 0.0, 20: 1.0, 50: 1.0}


def test_a_match_never_gains_from_a_tie() -> None:
    case = perfect_case()
    result = rank_distances(np.zeros((5, 15)), case[2:])
    assert result.first_match_rank.tolist() == [13] * 5
    assert result.average_precision == pytest.approx([(1 / 13 + 2 / 14) / 2] * 5)


def test_infinite_distances_rank_last_and_ties_among_them_do_not_help() -> None:
    distances = np.full((1, 4), np.inf)
    distances[0, 3] = 1.0
    result = rank_distances(distances, ([1], [1, 1, 2, 3], [0], [1, 0, 1, 1]))
    assert result.first_match_rank.tolist() == [3]


def test_an_infinitely_far_match_counts_alike_beside_more_images() -> None:
    # The second query has three images, so the first one's single image is padded to three in their block.
    distances = np.array([[np.inf, 1.0, 1.0, 1.0], [9.0, 1.0, 1.0, 1.0]])
    result = rank_distances(distances, ([1, 2], [1, 2, 2, 2], [0, 0], [1] * 4))
    assert result.first_match_rank.tolist() == [4, 1]


def test_figures_of_a_case_worked_by_hand() -> None:
    # Query 1: kept items by distance: 2, [1], 2, [1]; its third item is its own camera's.
    # Query 2 (person 3) has a same-camera item only and is not counted.
    distances = [[0.2, 0.4, 0.1, 0.1, 0.3, 0.5], [0.1] * 6]
    ids, cameras = [1, 1, 1, 2, 2, 3], [1, 1, 0, 0, 0, 0]
    result = rank_distances(distances, ([1, 3], ids, [0, 0], cameras))
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
