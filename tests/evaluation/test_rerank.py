import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.rerank import Reciprocal, k_reciprocal, k_reciprocal_blocks
from tests.reference.rerank import clustered, dense_k_reciprocal
from tests.support import memory_budget


@pytest.mark.parametrize("spread", [0.0001, 0.6, 100.0])
@pytest.mark.parametrize(
    ("k1", "k2", "lambda_value"), [(20, 6, 0.3), (7, 3, 0.0), (5, 1, 0.5), (1, 1, 0.3), (3, 9, 0.2)]
)
def test_equals_the_dense_definition(spread: float, k1: int, k2: int, lambda_value: float) -> None:
    query, gallery = clustered(13, 90, seed=k1, spread=spread)
    reference = dense_k_reciprocal(query, gallery, k1, k2, lambda_value)
    distances = k_reciprocal(query, gallery, k1=k1, k2=k2, lambda_value=lambda_value)
    assert distances.shape == (13, 90)
    assert distances.dtype == torch.float32
    np.testing.assert_allclose(distances.numpy(), reference, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_float32_equals_the_dense_definition(seed: int) -> None:
    query, gallery = (part.astype(np.float32) for part in clustered(10, 80, seed=seed))
    reference = dense_k_reciprocal(query.astype(float), gallery.astype(float), 20, 6, 0.3)
    distances = k_reciprocal(torch.from_numpy(query), torch.from_numpy(gallery))
    np.testing.assert_allclose(distances.numpy(), reference, atol=1e-5)


def test_ties_go_to_the_item_itself_then_to_the_lower_index() -> None:
    # Entries of +-1/4 have length 1 and exact products, with many exact ties and whole copies.
    rng = np.random.default_rng(0)
    distinct = rng.choice([-0.25, 0.25], size=(40, 16))
    x = distinct[rng.integers(40, size=150)]
    x[60:80] = x[0]
    reference = dense_k_reciprocal(x[:20], x[20:], 8, 4, 0.3)
    for budget in (1, 2**30):
        with memory_budget(budget):
            distances = k_reciprocal(x[:20], x[20:], k1=8, k2=4)
        np.testing.assert_allclose(distances.numpy(), reference, atol=1e-5)


def test_memory_budget_does_not_change_the_result() -> None:
    query, gallery = clustered(30, 200)
    with memory_budget(1):
        frugal = k_reciprocal(query, gallery)
    torch.testing.assert_close(frugal, k_reciprocal(query, gallery), atol=1e-6, rtol=0)


def test_blocks_cover_the_queries_in_order() -> None:
    query, gallery = clustered(30, 200)
    whole = k_reciprocal(query, gallery)
    with memory_budget(2 * 7 * 4 * 8 * 200):
        blocks = list(k_reciprocal_blocks(torch.from_numpy(query), torch.from_numpy(gallery), Reciprocal()))
    assert [len(distances) for _, distances in blocks] == [6, 6, 6, 6, 6]
    assert [rows.start for rows, _ in blocks] == [0, 6, 12, 18, 24]
    torch.testing.assert_close(torch.cat([distances for _, distances in blocks]), whole, atol=1e-6, rtol=0)


@settings(max_examples=25, deadline=None)
@given(
    num_queries=st.integers(1, 12),
    num_gallery=st.integers(1, 30),
    k1=st.integers(1, 40),
    k2=st.integers(1, 40),
    lambda_value=st.floats(0, 1),
    seed=st.integers(0, 2**16),
)
def test_any_size_equals_the_definition_whatever_k(
    num_queries: int, num_gallery: int, k1: int, k2: int, lambda_value: float, seed: int
) -> None:
    query, gallery = clustered(num_queries, num_gallery, seed=seed)
    distances = k_reciprocal(query, gallery, k1=k1, k2=k2, lambda_value=lambda_value).numpy()
    reference = dense_k_reciprocal(query, gallery, k1, k2, lambda_value)
    np.testing.assert_allclose(distances, reference, atol=1e-5)
    assert distances.min() >= -1e-6
    assert distances.max() <= 1 + 1e-6


def test_gallery_order_and_scale_do_not_matter() -> None:
    query, gallery = clustered(10, 60)
    order = np.random.default_rng(3).permutation(60)
    whole = k_reciprocal(query, gallery)
    torch.testing.assert_close(k_reciprocal(query, gallery[order]), whole[:, order], atol=1e-6, rtol=0)
    torch.testing.assert_close(k_reciprocal(7 * query, 0.1 * gallery), whole, atol=1e-6, rtol=0)


def test_helps_where_neighbors_find_each_other() -> None:
    query, gallery = clustered(64, 400, spread=1.0)
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(464 // 8, 16))
    ids = rng.integers(len(centers), size=464)
    matches = torch.from_numpy(ids[:64, None] == ids[None, 64:])

    def mean_rank(distances: torch.Tensor) -> float:
        return float(distances.argsort(dim=1).argsort(dim=1)[matches].float().mean())

    assert mean_rank(k_reciprocal(query, gallery)) < mean_rank(k_reciprocal(query, gallery, lambda_value=1.0))


@pytest.mark.parametrize("value", [1.0, 0.0])
def test_equal_features_give_finite_distances(value: float) -> None:
    distances = k_reciprocal(torch.full((3, 8), value), torch.full((40, 8), value), k1=5)
    assert distances.isfinite().all()
    assert distances.min() >= 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu() -> None:
    query, gallery = (torch.from_numpy(part) for part in clustered(40, 500))
    distances = k_reciprocal(query.cuda(), gallery.cuda())
    assert distances.is_cuda
    torch.testing.assert_close(distances.cpu(), k_reciprocal(query, gallery), atol=1e-5, rtol=0)
