import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from evaluation.retrieval.inputs import Retrieval
from evaluation.retrieval.knn import TopK, nearest, nearest_among, normalize, ranked_items
from tests.support import memory_budget


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 40),
    st.lists(st.integers(1, 30), min_size=1, max_size=6),
    st.booleans(),
    st.booleans(),
)
def test_tiles_give_the_k_best_of_a_stable_sort(
    seed: int, k: int, widths: list[int], tied: bool, transposed: bool
) -> None:
    rng = np.random.default_rng(seed)
    total = sum(widths)
    values = rng.integers(0, 3, (5, total)).astype(float) if tied else rng.standard_normal((5, total))
    values = torch.from_numpy(np.asfortranarray(values) if transposed else values)
    best = TopK(5, min(k, total), values)
    for rows in (slice(0, 2), slice(2, 5)):
        start = 0
        for width in widths:
            best.merge(rows, values[rows, start : start + width], start)
            start += width
    reference, order = values.sort(dim=1, descending=True, stable=True)
    assert torch.equal(best.indices, order[:, : min(k, total)])
    assert torch.equal(best.values, reference[:, : min(k, total)])


def exact_unit_rows() -> torch.Tensor:
    """200 rows of +-1/4, of length 1: exact products, and many ties."""
    return torch.from_numpy(np.random.default_rng(1).choice([-0.25, 0.25], size=(200, 16)))


def test_neighbors_of_tiles_are_those_of_a_stable_sort() -> None:
    x = exact_unit_rows()
    similarity = x @ x.T
    expected_lowest = similarity.amin(dim=1)
    similarity.fill_diagonal_(2.0)
    with memory_budget(1):  # the smallest tiles
        neighbors = nearest_among(x, 30)
    assert torch.equal(neighbors.indices, similarity.sort(dim=1, descending=True, stable=True).indices[:, :30])
    assert torch.equal(neighbors.lowest, expected_lowest)
    assert torch.equal(neighbors.similarities[:, 0], torch.ones(200, dtype=x.dtype))


def test_neighbors_in_another_set_are_those_of_a_stable_sort() -> None:
    x = exact_unit_rows()
    with memory_budget(1):
        best = nearest(x[:70], x[70:], 90)
    reference, order = (x[:70] @ x[70:].T).sort(dim=1, descending=True, stable=True)
    assert torch.equal(best.indices, order[:, :90])
    assert torch.equal(best.values, reference[:, :90])


def test_rows_are_scaled_and_stay_where_they_are_zero() -> None:
    rows = normalize(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 0.0], [0.0, 2.0]], dtype=torch.float16))
    torch.testing.assert_close(rows, torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, 1.0]]))
    assert normalize(torch.ones(1, 2), torch.ones(1, 2, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("camera_rule", [True, False])
def test_blocks_of_one_query_give_the_lists_of_one_block(camera_rule: bool) -> None:
    rng = np.random.default_rng(3)
    features = [torch.from_numpy(rng.choice([-1.0, 1.0], (number, 4))).float() for number in (9, 40)]
    labels = [torch.from_numpy(rng.integers(1, 4, number)) for number in (9, 40, 9, 40)]
    retrieval = Retrieval.of(*features, *labels)
    whole = ranked_items(retrieval, 7, camera_rule)
    with memory_budget(1):
        parts = ranked_items(retrieval, 7, camera_rule)
    for reference, part in zip(whole, parts, strict=True):
        assert torch.equal(reference, part)


def test_no_block_of_the_size_of_all_pairs_is_made() -> None:
    generator = torch.Generator().manual_seed(0)
    query, gallery = torch.randn(64, 8, generator=generator), torch.randn(4096, 8, generator=generator)
    retrieval = Retrieval.of(query, gallery, [1] * 64, [1] * 4096, [0] * 64, [1] * 4096)
    with memory_budget(2**20), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as memory:
        ranked_items(retrieval, 5, camera_rule=True)
    assert max(event.self_cpu_memory_usage for event in memory.events()) <= 2**20
