from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from evaluation.inputs import check_inputs
from evaluation.nearest_items import nearest_items
from evaluation.ranked_lists import RankedList, Selection, ranked_lists, select_queries
from evaluation.ranking import evaluate_ranking
from tests.support import memory_budget
from utils.errors import ReidError


class Image(NamedTuple):
    path: Path
    person_id: int
    camera_id: int


def label(ids: np.ndarray, cameras: np.ndarray) -> list[Image]:
    return [Image(Path(f"{i}.jpg"), int(p), int(c)) for i, (p, c) in enumerate(zip(ids, cameras, strict=True))]


def draw(seed: int, num_query: int = 9, num_gallery: int = 40) -> tuple:
    """Features of +1 and -1 in 4 dimensions: cosines are exact multiples of 1/2, and ties abound."""
    rng = np.random.default_rng(seed)
    features = [torch.from_numpy(rng.choice([-1.0, 1.0], (n, 4))).float() for n in (num_query, num_gallery)]
    labels = (
        label(rng.integers(1, 5, num_query), rng.integers(1, 4, num_query)),
        label(rng.integers(0, 5, num_gallery), rng.integers(1, 4, num_gallery)),
    )
    return (*features, *labels)


def numbers(query_labels: list[Image], gallery_labels: list[Image]) -> list[list[int]]:
    """Identities of both sides, then cameras of both sides."""
    sides = (query_labels, gallery_labels)
    return [[getattr(label, name) for label in side] for name in ("person_id", "camera_id") for side in sides]


def plain_list(query: np.ndarray, gallery: np.ndarray, asked: Image, items: list[Image], camera_rule: bool) -> list:
    """(distance, is a match, row) of every kept item, nearest first, one item at a time in float64."""
    found = []
    for row, item in enumerate(items):
        match = item.person_id == asked.person_id
        if match and camera_rule and item.camera_id == asked.camera_id:
            continue
        cosine = query @ gallery[row] / np.linalg.norm(query) / np.linalg.norm(gallery[row])
        found.append((1 - cosine, match, row))
    return sorted(found)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.integers(1, 60), st.sampled_from([torch.float32, torch.float16]))
def test_equals_a_plain_loop_also_at_ties(seed: int, camera_rule: bool, k: int, dtype: torch.dtype) -> None:
    query, gallery, query_labels, gallery_labels = draw(seed)
    rows = [7, 0, 3]
    lists = ranked_lists(query, gallery.to(dtype), query_labels, gallery_labels, rows, k=k, camera_rule=camera_rule)
    assert [ranked.query_row for ranked in lists] == rows
    for ranked in lists:
        plain = plain_list(
            query[ranked.query_row].double().numpy(),
            gallery.double().numpy(),
            query_labels[ranked.query_row],
            gallery_labels,
            camera_rule,
        )[:k]
        assert ranked.gallery_rows.tolist() == [row for _, _, row in plain]
        assert ranked.matches.tolist() == [match for _, match, _ in plain]
        np.testing.assert_allclose(ranked.distances, [distance for distance, _, _ in plain], atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_shows_the_figures_that_were_reported(seed: int, camera_rule: bool) -> None:
    query, gallery, query_labels, gallery_labels = draw(seed, num_query=20)
    both = [
        (np.array([i.person_id for i in side]), np.array([i.camera_id for i in side]))
        for side in (query_labels, gallery_labels)
    ]
    ids, cameras = zip(*both, strict=True)
    result = evaluate_ranking(query, gallery, *ids, *cameras, camera_rule=camera_rule)
    lists = ranked_lists(query, gallery, query_labels, gallery_labels, range(20), k=40, camera_rule=camera_rule)
    for ranked, precision, first in zip(lists, result.average_precision, result.first_match_rank, strict=True):
        places = np.flatnonzero(ranked.matches) + 1
        assert (places[0] if len(places) else 0) == first
        if len(places):
            assert np.mean(np.arange(1, len(places) + 1) / places) == pytest.approx(precision)


def test_blocks_of_one_query_give_the_lists_of_one_block() -> None:
    query, gallery, query_labels, gallery_labels = draw(3)
    inputs = check_inputs(query, gallery, *numbers(query_labels, gallery_labels))
    whole = nearest_items(inputs, 7, camera_rule=True)
    with memory_budget(1):
        parts = nearest_items(inputs, 7, camera_rule=True)
    for expected, got in zip(whole, parts, strict=True):
        assert torch.equal(expected, got)


def test_no_block_of_the_size_of_all_pairs_is_made() -> None:
    generator = torch.Generator().manual_seed(0)
    query, gallery = torch.randn(64, 8, generator=generator), torch.randn(4096, 8, generator=generator)
    inputs = check_inputs(query, gallery, [1] * 64, [1] * 4096, [0] * 64, [1] * 4096)
    with memory_budget(2**20), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        nearest_items(inputs, 5, camera_rule=True)
    assert max(event.self_cpu_memory_usage for event in recorded.events()) <= 2**20


def test_a_distance_is_never_negative_or_above_two() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(50, 33)
    labels = label(np.arange(1, 51), np.ones(50, int))
    lists = ranked_lists(
        torch.cat([vectors, -vectors]), vectors, labels + labels, labels, range(100), k=50, camera_rule=False
    )
    distances = np.stack([ranked.distances for ranked in lists])
    assert distances.min() == 0.0
    assert distances.max() <= 2.0
    assert (np.diff(distances, axis=1) >= 0).all()


def test_a_small_gallery_gives_a_short_list() -> None:
    one = label(np.array([1]), np.array([1]))
    two = label(np.array([1, 2]), np.array([1, 1]))
    kept = ranked_lists(torch.ones(1, 2), torch.ones(2, 2), one, two, [0], k=10, camera_rule=True)[0]
    assert isinstance(kept, RankedList)
    assert kept.gallery_rows.tolist() == [1]
    assert kept.matches.tolist() == [False]
    assert ranked_lists(torch.ones(1, 2), torch.ones(2, 2), one, two, [], k=10, camera_rule=True) == []


def test_refuses_what_does_not_fit() -> None:
    query, gallery, query_labels, gallery_labels = draw(0)
    for k in (0, 1.5):
        with pytest.raises(ReidError, match="k must be an integer of 1 or more, got"):
            ranked_lists(query, gallery, query_labels, gallery_labels, [0], k=k, camera_rule=True)
    for row in (-1, 9):
        with pytest.raises(ReidError, match=f"rows must be positions of queries, 0 to 8, got {row}; take"):
            ranked_lists(query, gallery, query_labels, gallery_labels, [row], k=1, camera_rule=True)
    with pytest.raises(ReidError, match="query_labels must have one entry per feature, got 8 for 9"):
        ranked_lists(query, gallery, query_labels[1:], gallery_labels, [0], k=1, camera_rule=True)
    with pytest.raises(ReidError, match="gallery_ids must have one entry per feature"):
        ranked_lists(query, gallery, query_labels, gallery_labels[1:], [0], k=1, camera_rule=True)


precisions = st.lists(st.one_of(st.just(float("nan")), st.sampled_from([0.1, 0.5, 1.0]), st.floats(0, 1)))


@given(precisions, st.integers(1, 40))
def test_a_selection_has_the_worst_the_middle_and_the_best(values: list[float], most: int) -> None:
    precision = np.array(values, dtype=np.float64)
    chosen = select_queries(precision, most)
    assert chosen == select_queries(precision, most)
    valid = precision[~np.isnan(precision)]
    sizes = [len(chosen.worst), len(chosen.best), len(chosen.median)]
    assert sum(sizes) == min(most, len(valid))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] - sizes[2] <= 1
    assert len(set(chosen.rows)) == len(chosen.rows)
    ordered = np.sort(valid)
    assert precision[list(chosen.worst)].tolist() == ordered[: sizes[0]].tolist()
    assert precision[list(chosen.best)].tolist() == ordered[::-1][: sizes[1]].tolist()
    middle = precision[list(chosen.median)]
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
    assert [chosen.row for chosen in selection] == list(selection.rows)


def test_a_selection_of_none_is_refused() -> None:
    with pytest.raises(ReidError, match="max_number must be an integer of 1 or more, got 0"):
        select_queries(np.ones(3), 0)
