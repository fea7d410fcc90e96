from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.format import open_memmap

from inference.indexes.flat import FlatIndex
from tests.support import memory_budget
from utils.errors import ReidError


def plain(queries: np.ndarray, vectors: np.ndarray, k: int, normalize: bool) -> tuple[np.ndarray, np.ndarray]:
    """The whole matrix in float64, sorted."""
    queries, vectors = queries.astype(np.float64), vectors.astype(np.float64)
    if normalize:
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        distances = 1.0 - queries @ vectors.T
    else:
        distances = np.array([((vectors - query) ** 2).sum(1) for query in queries])
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, 1), order


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("number", "k"), [(1, 1), (50, 7), (50, 80), (9000, 10), (9000, 1500), (20000, 0)])
def test_as_a_full_sort(number: int, k: int, normalize: bool) -> None:
    generator = np.random.default_rng(number + k)
    vectors = generator.standard_normal((number, 24), np.float32) * generator.uniform(0.1, 9, (number, 1)).astype(
        "f4"
    )
    queries = generator.standard_normal((5, 24), np.float32)
    distances, indices = FlatIndex(vectors, normalize=normalize).search(queries, k)
    exact, order = plain(queries, vectors, k or number, normalize)
    assert distances.shape == indices.shape == exact.shape
    assert (distances.dtype, indices.dtype) == (np.float32, np.int64)
    np.testing.assert_allclose(distances, exact, rtol=1e-5, atol=1e-4 if not normalize else 1e-6)
    assert (indices == order).mean() > 0.999  # neighbors nearer than float32 can tell may swap
    assert (np.diff(distances, axis=1) >= 0).all()


@given(st.integers(0, 10_000), st.integers(1, 60), st.sampled_from([4096, 2**14, 2**28]))
@settings(max_examples=10, deadline=None)
def test_ties_come_by_position_whatever_the_budget(seed: int, k: int, budget: int) -> None:
    generator = np.random.default_rng(seed)
    vectors = generator.integers(-1, 2, (5000, 3)).astype(np.float32)  # 27 vectors: nearly everything is tied
    queries = generator.integers(-1, 2, (4, 3)).astype(np.float32)
    with memory_budget(budget):
        distances, indices = FlatIndex(vectors, normalize=False).search(queries, k)
    exact, order = plain(queries, vectors, k, normalize=False)
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(distances, exact)


def test_the_best_come_last() -> None:
    """Every tile is better than all before: nothing may be filtered away."""
    vectors = np.stack([np.ones(12000), np.linspace(9, 0, 12000)], axis=1).astype(np.float32)
    _, indices = FlatIndex(vectors).search(np.array([[1.0, 0.0]], np.float32), 5000)
    np.testing.assert_array_equal(indices[0], np.arange(11999, 6999, -1))


def test_lengths_and_zeros() -> None:
    vectors = np.random.default_rng(0).standard_normal((30, 8), np.float32)
    vectors[4] = 0
    near = FlatIndex(vectors).search(vectors[:3] * 100, 30)
    far = FlatIndex(vectors * np.arange(1, 31, dtype=np.float32)[:, None]).search(vectors[:3], 30)
    np.testing.assert_array_equal(near.indices, far.indices)
    np.testing.assert_allclose(near.distances, far.distances, atol=1e-6)
    assert near.distances[near.indices == 4] == pytest.approx(1.0)
    assert near.indices[:, 0].tolist() == [0, 1, 2]
    assert (near.distances >= 0).all()


def test_a_memory_map_a_tensor_and_half_precision(tmp_path: Path) -> None:
    mapped = open_memmap(tmp_path / "v.npy", mode="w+", dtype=np.float32, shape=(5000, 16))
    mapped[:] = np.random.default_rng(1).standard_normal((5000, 16))
    mapped.flush()
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    queries = np.random.default_rng(2).standard_normal((3, 16))
    exact = FlatIndex(np.array(mapped)).search(queries, 9)
    for vectors in (mapped, torch.from_numpy(np.array(mapped)), torch.from_numpy(np.array(mapped)).double()):
        np.testing.assert_array_equal(FlatIndex(vectors).search(torch.from_numpy(queries), 9).indices, exact.indices)
    half = FlatIndex(torch.from_numpy(np.array(mapped)).half()).search(queries, 9)
    np.testing.assert_allclose(half.distances, exact.distances, atol=2e-3)


def test_the_work_of_a_search_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No product is larger than the budget allows."""
    sizes, product = [], torch.mm

    def spy(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        sizes.append(left.shape[0] * right.shape[1])
        return product(left, right)

    monkeypatch.setattr(torch, "mm", spy)
    with memory_budget(64 * 4096 * 10):
        FlatIndex(np.ones((20000, 4), np.float32)).search(np.ones((100, 4), np.float32), 3)
    assert len(sizes) >= 50
    assert max(sizes) <= 4096 * 10


@pytest.mark.parametrize(
    ("vectors", "queries", "k", "rule"),
    [
        (np.zeros((0, 4), np.float32), None, 1, r"vectors must be an \(N, D\) matrix of floating point"),
        (np.zeros(4, np.float32), None, 1, r"vectors must be an \(N, D\) matrix .* got \(4,\)"),
        (np.ones((3, 4), np.int64), None, 1, "vectors must be .* got .*int64"),
        (np.full((3, 4), np.nan, np.float32), None, 1, "vectors must be finite"),
        (np.ones((3, 4), np.float32), np.ones((2, 5), np.float32), 1, "queries must have 4 dimensions, got 5"),
        (np.ones((3, 4), np.float32), np.full((2, 4), np.inf), 1, "queries must be finite"),
        (np.ones((3, 4), np.float32), np.ones((2, 4), np.float32), -1, r"k must be an integer of 0 \(all\) or more"),
        (np.ones((3, 4), np.float32), np.ones((2, 4), np.float32), 1.5, "k must be an integer"),
    ],
)
def test_mistakes(vectors: np.ndarray, queries: np.ndarray, k: int, rule: str) -> None:
    with pytest.raises(ReidError, match=rule):
        FlatIndex(vectors).search(queries, k)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda() -> None:
    vectors = np.random.default_rng(0).standard_normal((30000, 64), np.float32)
    here = FlatIndex(vectors).search(vectors[:50], 100)
    there = FlatIndex(vectors, device="cuda").search(vectors[:50], 100)
    np.testing.assert_allclose(there.distances, here.distances, atol=1e-5)
    assert (here.indices == there.indices).mean() > 0.999
