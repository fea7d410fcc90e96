from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.ranking import CMC_RANKS, RankingResult, evaluate_distances, evaluate_ranking
from tests.support import memory_budget
from utils.distance import METRICS
from utils.errors import ReidError

ROWS_ONE_BY_ONE = 1


class Case(NamedTuple):
    query: np.ndarray
    gallery: np.ndarray
    query_ids: np.ndarray
    gallery_ids: np.ndarray
    query_cameras: np.ndarray
    gallery_cameras: np.ndarray


def plain_ranking(distances: np.ndarray, case: Case, camera_rule: bool = True) -> dict[str, object]:
    """The protocol spelled out: sort the kept items, matches last among equals, and walk down the list."""
    precisions, penalties, firsts = [], [], []
    for row, person, camera in zip(distances, case.query_ids, case.query_cameras, strict=True):
        kept = []
        for distance, other, other_camera in zip(row, case.gallery_ids, case.gallery_cameras, strict=True):
            if camera_rule and other == person and other_camera == camera:
                continue
            kept.append((float(distance), bool(other == person)))
        found, precision, first = 0, [], 0
        for rank, (_, is_match) in enumerate(sorted(kept), start=1):
            if is_match:
                found += 1
                first = first or rank
                precision.append(found / rank)
        firsts.append(first)
        precisions.append(sum(precision) / found if found else float("nan"))
        if found:
            penalties.append(precision[-1])
    valid = [first for first in firsts if first]
    return {
        "mAP": float(np.nanmean(precisions)) if valid else None,
        "mINP": sum(penalties) / len(penalties) if valid else None,
        "cmc": {k: sum(first <= k for first in valid) / len(valid) for k in CMC_RANKS} if valid else None,
        "average_precision": precisions,
        "first_match_rank": firsts,
        "num_valid_queries": len(valid),
    }


def assert_equal(result: RankingResult, expected: dict[str, object], tolerance: float = 1e-12) -> None:
    assert result.num_valid_queries == expected["num_valid_queries"]
    assert result.mAP == pytest.approx(expected["mAP"], abs=tolerance)
    assert result.mINP == pytest.approx(expected["mINP"], abs=tolerance)
    assert result.cmc == pytest.approx(expected["cmc"], abs=tolerance)
    np.testing.assert_allclose(result.average_precision, expected["average_precision"], atol=tolerance)
    np.testing.assert_array_equal(result.first_match_rank, expected["first_match_rank"])


def float64_distances(case: Case, metric: str) -> np.ndarray:
    query, gallery = case.query.astype(np.float64), case.gallery.astype(np.float64)
    if metric == "cosine":
        query = query / np.linalg.norm(query, axis=1, keepdims=True)
        gallery = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
        return 1 - query @ gallery.T
    squared = ((query[:, None] - gallery[None]) ** 2).sum(-1)
    return squared if metric == "sqeuclidean" else np.sqrt(squared)


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
    expected = plain_ranking(float64_distances(case, metric), case, camera_rule)
    with memory_budget(budget):
        result = ranked_or_none(lambda: evaluate_ranking(*case, metric=metric, camera_rule=camera_rule))
    assert (result is None) == (expected["num_valid_queries"] == 0)
    if result is not None:
        assert_equal(result, expected)


@settings(max_examples=60, deadline=None)
@given(cases, st.booleans(), st.sampled_from([ROWS_ONE_BY_ONE, 2**28]))
def test_distances_give_the_figures_of_the_plain_loop(case: Case, camera_rule: bool, budget: int) -> None:
    distances = float64_distances(case, "cosine").round(2)
    expected = plain_ranking(distances, case, camera_rule)
    labels = case[2:]
    with memory_budget(budget):
        result = ranked_or_none(lambda: evaluate_distances(distances, *labels, camera_rule=camera_rule))
    assert (result is None) == (expected["num_valid_queries"] == 0)
    if result is not None:
        assert_equal(result, expected)


@settings(max_examples=40, deadline=None)
@given(cases, st.randoms(use_true_random=False))
def test_permuting_the_gallery_changes_nothing(case: Case, random: object) -> None:
    order = np.array(random.sample(range(len(case.gallery)), len(case.gallery)))  # type: ignore[attr-defined]
    moved = case._replace(
        gallery=case.gallery[order],
        gallery_ids=case.gallery_ids[order],
        gallery_cameras=case.gallery_cameras[order],
    )
    before = ranked_or_none(lambda: evaluate_ranking(*case, metric="sqeuclidean"))
    after = ranked_or_none(lambda: evaluate_ranking(*moved, metric="sqeuclidean"))
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


def realistic_case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    query_ids, gallery_ids = rng.integers(1, 61, 120), rng.integers(0, 61, 600)
    centers = rng.standard_normal((61, 128))

    def embed(ids: np.ndarray) -> np.ndarray:
        return (centers[ids] * 0.5 + rng.standard_normal((len(ids), 128))).astype(np.float32)

    cameras = rng.integers(0, 6, 720)
    return Case(embed(query_ids), embed(gallery_ids), query_ids, gallery_ids, cameras[:120], cameras[120:])


def without_near_ties(case: Case, distances: np.ndarray, smallest_gap: float) -> tuple[Case, np.ndarray]:
    """Only the queries with no item of another person within the rounding of float32 of a match."""
    is_own = case.query_ids[:, None] == case.gallery_ids
    gaps = [
        np.abs(row[own][:, None] - row[~own]).min(initial=np.inf) for row, own in zip(distances, is_own, strict=True)
    ]
    clear = np.array(gaps) > smallest_gap
    kept = case._replace(
        query=case.query[clear], query_ids=case.query_ids[clear], query_cameras=case.query_cameras[clear]
    )
    return kept, distances[clear]


@pytest.mark.parametrize("metric", METRICS)
def test_float32_equals_a_float64_loop(metric: str) -> None:
    case = realistic_case(3)
    distances = float64_distances(case, metric)
    result = evaluate_ranking(*case, metric=metric)
    expected = plain_ranking(distances, case)
    assert 0.1 < result.mAP < 0.95
    assert result.mAP == pytest.approx(expected["mAP"], abs=1e-6)
    clear, clear_distances = without_near_ties(case, distances, 1e-6 * float(np.median(distances)))
    assert len(clear.query) > 50
    assert_equal(evaluate_ranking(*clear, metric=metric), plain_ranking(clear_distances, clear))


def test_blocks_tensors_arrays_and_layouts_agree() -> None:
    case = realistic_case(4)
    expected = evaluate_ranking(*case)
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
        assert result.mAP == pytest.approx(expected.mAP, abs=1e-6)
        assert result.cmc == pytest.approx(expected.cmc, abs=1e-6)


def test_inputs_are_left_untouched() -> None:
    case = realistic_case(7)
    case = case._replace(query=case.query.astype(np.float64), gallery=case.gallery.astype(np.float64))
    distances = float64_distances(case, "cosine")
    copies = [array.copy() for array in (*case, distances)]
    evaluate_ranking(*case)
    evaluate_ranking(*case, metric="euclidean")
    evaluate_distances(distances, *case[2:])
    for array, copy in zip((*case, distances), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_a_read_only_memory_map_is_read_in_blocks(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    case = realistic_case(8)
    distances = float64_distances(case, "cosine")
    np.save(tmp_path / "distances.npy", distances)
    mapped = np.load(tmp_path / "distances.npy", mmap_mode="r")
    with memory_budget(ROWS_ONE_BY_ONE):
        result = evaluate_distances(mapped, *case[2:])
    assert_equal(result, plain_ranking(distances, case))
    assert not recwarn.list
