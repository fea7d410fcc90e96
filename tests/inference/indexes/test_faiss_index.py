import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.indexes.faiss_index import FaissIndex, build_faiss, load_faiss, parameters_for
from inference.indexes.flat import FlatIndex
from tests.support import largest_file, memory_budget
from utils.errors import ReidError

pytest.importorskip("faiss")


Data = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def people() -> Data:
    """10,000 vectors in clusters of 20, and 30 queries near them."""
    generator = np.random.default_rng(0)
    centers = generator.standard_normal((500, 16), np.float32)

    def near(number: int) -> np.ndarray:
        return 3 * centers[np.arange(number) % 500] + generator.standard_normal((number, 16), np.float32)

    return near(10_000), near(30)


@pytest.fixture(scope="module", params=["hnsw", "ivfpq"])
def index(people: Data, request: pytest.FixtureRequest) -> FaissIndex:
    return build_faiss(people[0], request.param)


def check(index: FaissIndex, people: Data, normalize: bool) -> None:
    vectors, queries = people
    assert len(index) == len(vectors)
    distances, indices = index.search(queries, 10)
    exact = FlatIndex(vectors, normalize=normalize).search(queries, 10)
    recall = (indices[:, :, None] == exact.indices[:, None]).any(2).mean()
    assert recall > 0.95
    same = indices == exact.indices
    np.testing.assert_allclose(distances[same], exact.distances[same], rtol=1e-3, atol=1e-4)
    assert (np.diff(distances, axis=1) >= -1e-6).all()


def test_recall_and_distances(index: FaissIndex, people: Data) -> None:
    check(index, people, normalize=True)


def test_squared_euclidean_distance(people: Data) -> None:
    check(build_faiss(people[0], "ivfpq", normalize=False), people, normalize=False)
    few = people[0][:500], people[1]
    check(build_faiss(few[0], "hnsw", normalize=False), few, normalize=False)


def test_the_budget_changes_no_result(index: FaissIndex, people: Data) -> None:
    with memory_budget(1):
        one_by_one = index.search(people[1], 5)
    np.testing.assert_array_equal(index.search(people[1], 5).indices, one_by_one.indices)


def test_saved_and_loaded(index: FaissIndex, people: Data, tmp_path: Path) -> None:
    index.save(tmp_path / "a.faiss")
    again = load_faiss(tmp_path / "a.faiss", people[0])
    for before, after in zip(index.search(people[1], 7), again.search(people[1], 7), strict=True):
        np.testing.assert_array_equal(before, after)
    assert again.parameters == index.parameters
    assert [path.name for path in tmp_path.iterdir()] == ["a.faiss"]


def test_an_index_of_an_earlier_version_is_read(people: Data, tmp_path: Path) -> None:
    """Of unit vectors it has squared distances, where a new one has inner products."""
    faiss = pytest.importorskip("faiss")
    vectors = people[0][:500]
    content = faiss.IndexHNSWFlat(16, 32)
    content.add(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    faiss.write_index(content, str(tmp_path / "old.faiss"))
    check(load_faiss(tmp_path / "old.faiss", vectors), (vectors, people[1]), normalize=True)


def test_what_cannot_be_found_is_said(index: FaissIndex, people: Data) -> None:
    """Lists that are not visited leave places over."""
    distances, indices = index.search(people[1][:2], 0)  # all candidates of 16 components fit into the budget
    assert distances.shape == (2, 10_000)
    assert ((indices == -1) == np.isinf(distances)).all()
    assert (indices == -1).any() == ("lists" in index.parameters)
    assert (indices[:, :10] >= 0).all()


def test_small_hnsw_gives_all_there_are() -> None:
    vectors = np.eye(4, dtype=np.float32)
    distances, indices = build_faiss(vectors, "hnsw").search(vectors[:1], 9)
    assert indices.shape == (1, 4)
    np.testing.assert_allclose(distances, [[0, 1, 1, 1]], atol=1e-6)


def test_parameters() -> None:
    assert parameters_for("ivfpq", 1_000_000, 512) == {"lists": 2000, "bytes": 64, "sample": 128_000}
    assert parameters_for("ivfpq", 10_000, 7)["bytes"] == 1
    assert parameters_for("ivfpq", 10**8, 512)["sample"] <= 2**28 // 4 // 512


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda: build_faiss(np.ones((100, 8), np.float32), "ivfpq"), "ivfpq needs 9984 vectors or more .* got 100"),
        (lambda: build_faiss(np.full((9, 8), np.nan, np.float32), "hnsw"), "vectors must be finite"),
    ],
)
def test_mistakes(call: Callable[[], Any], rule: str) -> None:
    with pytest.raises(ReidError, match=rule):
        call()


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.faiss"
    build_faiss(np.eye(5, dtype=np.float32), "hnsw").save(path)
    with pytest.raises(ReidError, match=r"must belong to the embeddings \(4 x 5\), got an index of 5 x 5; delete it"):
        load_faiss(path, np.eye(5, dtype=np.float32)[:4])
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ReidError, match=r"must be an index, but cannot be read .* delete it to build it again"):
        load_faiss(path, np.eye(5, dtype=np.float32))


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ReidError, match="need FAISS, which is not installed; pip install faiss-cpu, or use flat"):
        build_faiss(np.eye(5, dtype=np.float32), "hnsw")


def test_more_candidates_than_the_budget_holds(people: Data) -> None:
    with memory_budget(2**19):
        index = build_faiss(people[0], "ivfpq")
        for k in (0, 1999, 10_000):
            with pytest.raises(
                ReidError, match=r"k must be at most 1998 for ivfpq, .* got .*; ask for fewer, or use flat"
            ):
                index.resolve_k(k)
        assert index.search(people[1][:2], 1998).indices.shape == (2, 1998)
        assert build_faiss(people[0], "hnsw").resolve_k(0) == 10_000


@pytest.mark.parametrize("missing", [1, 100_000])
def test_a_full_disk_leaves_no_half_index(index: FaissIndex, tmp_path: Path, missing: int) -> None:
    """Also where FAISS has handed over everything: its last bytes wait in a buffer, whose loss it does not report."""
    index.save(tmp_path / "a.faiss")
    size = (tmp_path / "a.faiss").stat().st_size
    with largest_file(size - missing), pytest.raises(OSError, match=r"b\.faiss"):
        index.save(tmp_path / "b.faiss")
    assert [path.name for path in tmp_path.iterdir()] == ["a.faiss"]
