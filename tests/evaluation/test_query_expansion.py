import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evaluation.query_expansion import QueryExpansion, expand_queries
from evaluation.retrieval.inputs import Retrieval
from tests.support import memory_budget
from utils.errors import ReidError

Matrix = NDArray[np.float64]


def expanded(query: object, gallery: object, *, k: int, alpha: float) -> torch.Tensor:
    labels = [[1] * len(query), [1] * len(gallery)]
    return expand_queries(Retrieval.of(query, gallery, *labels, *labels), QueryExpansion(k, alpha)).query


def looped(query: Matrix, gallery: Matrix, k: int, alpha: float) -> Matrix:
    result = []
    for q in query:
        q = q / np.linalg.norm(q)
        scored = sorted(((float(q @ g) / np.linalg.norm(g), -n) for n, g in enumerate(gallery)), reverse=True)
        total = q.copy()
        for similarity, minus_n in scored[:k]:
            g = gallery[-minus_n] / np.linalg.norm(gallery[-minus_n])
            total += max(similarity, 0.0) ** alpha * g
        result.append(total / np.linalg.norm(total))
    return np.array(result)


def features(num_queries: int, num_gallery: int, seed: int = 0) -> tuple[Matrix, Matrix]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num_queries, 8)), rng.normal(size=(num_gallery, 8))


@settings(max_examples=40, deadline=None)
@given(
    num_queries=st.integers(1, 10),
    num_gallery=st.integers(1, 150),
    k=st.integers(1, 160),
    alpha=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    budget=st.sampled_from([1, 1000, 2**30]),
    seed=st.integers(0, 2**16),
)
def test_equals_a_plain_loop(
    num_queries: int, num_gallery: int, k: int, alpha: float, budget: int, seed: int
) -> None:
    query, gallery = features(num_queries, num_gallery, seed)
    with memory_budget(budget):
        result = expanded(query, gallery, k=k, alpha=alpha)
    np.testing.assert_allclose(result.numpy(), looped(query, gallery, k, alpha), atol=1e-9)


def test_alpha_zero_is_the_plain_average() -> None:
    query, gallery = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 5.0], [-1.0, 0.0]])
    half = 0.5**0.5
    torch.testing.assert_close(expanded(query, gallery, k=1, alpha=0), torch.tensor([[half, half]]))
    # q + both gallery items: the third cancels the first.
    torch.testing.assert_close(expanded(query, gallery, k=2, alpha=0), torch.tensor([[0.0, 1.0]]))


def test_dissimilar_items_weigh_nothing_under_a_positive_alpha() -> None:
    query, gallery = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 5.0], [-1.0, 0.1]])
    for alpha in (0.5, 1.0, 3.0):
        result = expanded(query, gallery, k=2, alpha=alpha)
        torch.testing.assert_close(result, torch.tensor([[1.0, 0.0]]))


def test_large_alpha_leaves_the_query() -> None:
    query, gallery = features(5, 50)
    result = expanded(query, gallery, k=10, alpha=500)
    np.testing.assert_allclose(result.numpy(), query / np.linalg.norm(query, axis=1, keepdims=True), atol=1e-6)


def test_equal_neighbors_are_taken_by_lower_index() -> None:
    query = torch.tensor([[1.0, 0.0, 0.0]])
    gallery = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
    result = expanded(query, gallery, k=1, alpha=0)
    torch.testing.assert_close(result, torch.tensor([[0.5**0.5, 0.0, 0.5**0.5]]))


def test_autocast_does_not_reach_the_sum() -> None:
    query, gallery = (part.astype(np.float32) for part in features(5, 60))
    reference = expanded(query, gallery, k=7, alpha=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(expanded(query, gallery, k=7, alpha=3), reference)


def test_the_gallery_and_the_labels_stay() -> None:
    retrieval = Retrieval.of(torch.eye(2), 2 * torch.eye(2), [1, 2], [3, 4], [5, 6], [7, 8])
    result = expand_queries(retrieval, QueryExpansion(1, 1.0))
    assert result.gallery is retrieval.gallery
    assert (result.query_ids.tolist(), result.gallery_cameras.tolist()) == ([1, 2], [7, 8])
    torch.testing.assert_close(result.query_norms, torch.ones(2))


def test_dtype_and_inputs_are_kept() -> None:
    query, gallery = features(3, 20)
    before = query.copy(), gallery.copy()
    assert expanded(query, gallery, k=2, alpha=1).dtype == torch.float64
    assert expanded(query.astype(np.float16), gallery.astype(np.float32), k=2, alpha=1).dtype == torch.float32
    assert np.array_equal(query, before[0])
    assert np.array_equal(gallery, before[1])


@pytest.mark.parametrize(
    ("k", "alpha", "rule"),
    [
        (0, 1.0, "k must be an integer of 1 or more, got 0"),
        (1.5, 1.0, "k must be an integer of 1 or more, got 1.5"),
        (1, -0.5, "alpha must be a finite number of 0 or more, got -0.5"),
        (1, float("inf"), "alpha must be a finite number of 0 or more, got inf"),
        (1, float("nan"), "alpha must be a finite number of 0 or more, got nan"),
    ],
)
def test_parameters_out_of_range(k: int, alpha: float, rule: str) -> None:
    with pytest.raises(ReidError, match=rule):
        QueryExpansion(k, alpha)


def test_features_that_do_not_fit() -> None:
    query, gallery = features(3, 20)
    with pytest.raises(ReidError, match="features of one dimension, got 8 and 7"):
        expanded(query, gallery[:, :7], k=1, alpha=1)
    query[1, 2] = np.nan
    with pytest.raises(ReidError, match=r"query must be finite .*, got the norm nan in row 1 \(1 such rows\)"):
        expanded(query, gallery, k=1, alpha=1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu() -> None:
    query, gallery = (torch.from_numpy(part) for part in features(10, 100))
    result = expanded(query.cuda(), gallery.cuda(), k=5, alpha=3.0)
    torch.testing.assert_close(result.cpu(), expanded(query, gallery, k=5, alpha=3.0))
