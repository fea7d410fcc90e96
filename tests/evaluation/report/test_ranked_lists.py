from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.ranking import evaluate_ranking
from evaluation.report.ranked_lists import RankedList, Selection, ranked_lists, select_queries
from evaluation.retrieval.inputs import Retrieval
from utils.errors import ReidError


def draw(seed: int, num_query: int = 9, num_gallery: int = 40) -> Retrieval:
    """Features of +1 and -1 in 4 dimensions: cosines are exact multiples of 1/2, and ties abound."""
    rng = np.random.default_rng(seed)
    features = [torch.from_numpy(rng.choice([-1.0, 1.0], (n, 4))).float() for n in (num_query, num_gallery)]
    query_labels = rng.integers(1, 5, num_query), rng.integers(1, 4, num_query)
    gallery_labels = rng.integers(0, 5, num_gallery), rng.integers(1, 4, num_gallery)
    (ids, cameras), (other_ids, other_cameras) = query_labels, gallery_labels
    return Retrieval.of(*features, ids, other_ids, cameras, other_cameras)


def plain_list(retrieval: Retrieval, row: int, camera_rule: bool) -> list:
    """(distance, is a match, row) of every item that counts, nearest first, one item at a time in float64."""
    query, gallery = retrieval.query[row].double().numpy(), retrieval.gallery.double().numpy()
    items = []
    for number, (person, camera) in enumerate(zip(retrieval.gallery_ids, retrieval.gallery_cameras, strict=True)):
        match = bool(person == retrieval.query_ids[row])
        if match and camera_rule and camera == retrieval.query_cameras[row]:
            continue
        cosine = query @ gallery[number] / np.linalg.norm(query) / np.linalg.norm(gallery[number])
        items.append((1 - cosine, match, number))
    return sorted(items)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.integers(1, 60), st.sampled_from([torch.float32, torch.float16]))
def test_equals_a_plain_loop_also_at_ties(seed: int, camera_rule: bool, k: int, dtype: torch.dtype) -> None:
    retrieval = draw(seed)
    retrieval = replace(retrieval, gallery=retrieval.gallery.to(dtype))
    rows = [7, 0, 3]
    lists = ranked_lists(retrieval, rows, k=k, camera_rule=camera_rule)
    assert [ranked.query_row for ranked in lists] == rows
    for ranked in lists:
        plain = plain_list(retrieval, ranked.query_row, camera_rule)[:k]
        assert ranked.gallery_rows.tolist() == [row for _, _, row in plain]
        assert ranked.matches.tolist() == [match for _, match, _ in plain]
        np.testing.assert_allclose(ranked.distances, [distance for distance, _, _ in plain], atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_shows_the_figures_that_were_reported(seed: int, camera_rule: bool) -> None:
    retrieval = draw(seed, num_query=20)
    labels = retrieval.query_ids, retrieval.gallery_ids, retrieval.query_cameras, retrieval.gallery_cameras
    result = evaluate_ranking(retrieval.query, retrieval.gallery, *labels, camera_rule=camera_rule)
    lists = ranked_lists(retrieval, range(20), k=40, camera_rule=camera_rule)
    for ranked, precision, first in zip(lists, result.average_precision, result.first_match_rank, strict=True):
        places = np.flatnonzero(ranked.matches) + 1
        assert (places[0] if len(places) else 0) == first
        if len(places):
            assert np.mean(np.arange(1, len(places) + 1) / places) == pytest.approx(precision)


def test_a_distance_is_never_negative_or_above_two() -> None:
    vectors, ids, ones = torch.randn(50, 33), np.arange(1, 51), np.ones(50, int)
    retrieval = Retrieval.of(torch.cat([vectors, -vectors]), vectors, np.tile(ids, 2), ids, np.tile(ones, 2), ones)
    lists = ranked_lists(retrieval, range(100), k=50, camera_rule=False)
    distances = np.stack([ranked.distances for ranked in lists])
    assert distances.min() == 0.0
    assert distances.max() <= 2.0
    assert (np.diff(distances, axis=1) >= 0).all()


def test_a_small_gallery_gives_a_short_list() -> None:
    retrieval = Retrieval.of(torch.ones(1, 2), torch.ones(2, 2), [1], [1, 2], [1], [1, 1])
    (ranked,) = ranked_lists(retrieval, [0], k=10, camera_rule=True)
    assert isinstance(ranked, RankedList)
    assert ranked.gallery_rows.tolist() == [1]
    assert ranked.matches.tolist() == [False]
    assert ranked_lists(retrieval, [], k=10, camera_rule=True) == []


def test_refuses_what_does_not_fit() -> None:
    retrieval = draw(0)
    for k in (0, 1.5):
        with pytest.raises(ReidError, match="k must be an integer of 1 or more, got"):
            ranked_lists(retrieval, [0], k=k, camera_rule=True)
    for row in (-1, 9):
        with pytest.raises(ReidError, match=f"rows must be positions of queries, 0 to 8, got {row}; take"):
            ranked_lists(retrieval, [row], k=1, camera_rule=True)


precisions = st.lists(st.one_of(st.just(float("nan")), st.sampled_from([0.1, 0.5, 1.0]), st.floats(0, 1)))


@given(precisions, st.integers(1, 40))
def test_a_selection_has_the_worst_the_middle_and_the_best(values: list[float], most: int) -> None:
    precision = np.array(values, dtype=np.float64)
    selection = select_queries(precision, most)
    assert selection == select_queries(precision, most)
    valid = precision[~np.isnan(precision)]
    sizes = [len(selection.worst), len(selection.best), len(selection.median)]
    assert sum(sizes) == min(most, len(valid))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] - sizes[2] <= 1
    assert len(set(selection.rows)) == len(selection.rows)
    ordered = np.sort(valid)
    assert precision[list(selection.worst)].tolist() == ordered[: sizes[0]].tolist()
    assert precision[list(selection.best)].tolist() == ordered[::-1][: sizes[1]].tolist()
    middle = precision[list(selection.median)]
    if len(middle) and len(valid) >= 3 * sizes[0]:
        assert middle[0] <= np.median(valid) <= middle[-1] or len(middle) == 1


def test_one_median_query_is_the_median() -> None:
    assert select_queries(np.array([0.9, 0.1, np.nan, 0.5, 0.3, 0.7]), 3) == Selection((1,), (3,), (0,))


def test_equal_queries_are_not_taken_from_one_person() -> None:
    best = select_queries(np.ones(600), 30).best  # sorted by file: rows of one person lie side by side
    assert max(best) - min(best) > 300


def test_iterating_a_selection_names_group_and_place() -> None:
    selection = Selection((4, 2), (9,), (7,))
    assert list(selection) == [("worst", 1, 4), ("worst", 2, 2), ("median", 1, 9), ("best", 1, 7)]
    assert [choice.row for choice in selection] == list(selection.rows)


def test_a_selection_of_none_is_refused() -> None:
    with pytest.raises(ReidError, match="max_number must be an integer of 1 or more, got 0"):
        select_queries(np.ones(3), 0)
