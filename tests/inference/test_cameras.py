import logging

import numpy as np
import pytest

from inference.cameras import Cameras, search_cameras
from inference.index import build_index
from inference.indexes.base import NOT_FOUND, Index, SearchResult, Vectors
from tests.support import message_with
from utils.errors import ReidError

PATHS = np.array(
    [f"/photos/{place}/000{number}_c{number}.jpg" for number, place in enumerate(("gate", "yard", "yard"))]
)


class Bounded:
    """An index that gives at most ``most`` neighbors, as Milvus does."""

    def __init__(self, index: Index, most: int) -> None:
        self.index, self.most = index, most

    def __len__(self) -> int:
        return len(self.index)

    def resolve_k(self, k: int) -> int:
        if self.index.resolve_k(k) > self.most:
            raise ReidError("too many")
        return self.index.resolve_k(k)

    def search(self, queries: Vectors, k: int = 0) -> SearchResult:
        return self.index.search(queries, self.resolve_k(k))


def by_loops(
    vectors: np.ndarray, queries: np.ndarray, k: int, cameras: np.ndarray, own: np.ndarray, allowed: np.ndarray
) -> np.ndarray:
    rows = np.full((len(queries), k), NOT_FOUND)
    for query in range(len(queries)):
        cosines = vectors @ queries[query] / np.linalg.norm(vectors, axis=1)
        order = [item for item in np.argsort(-cosines) if allowed[item] and cameras[item] != own[query]]
        rows[query, : len(order[:k])] = order[:k]
    return rows


@pytest.mark.parametrize("share", [1.0, 0.5, 0.02])
@pytest.mark.parametrize("k", [1, 7, 0])
def test_the_nearest_of_some_cameras(share: float, k: int) -> None:
    numbers = np.random.default_rng(3)
    vectors = numbers.standard_normal((300, 8)).astype(np.float32)
    queries = numbers.standard_normal((9, 8)).astype(np.float32)
    cameras = numbers.integers(0, 5, 300)
    own = np.array([*range(5), -3, -3, 0, 1])
    allowed = numbers.random(300) < share
    index = build_index(vectors)
    result = search_cameras(index, queries, k, cameras, own, allowed)
    np.testing.assert_array_equal(result.indices, by_loops(vectors, queries, k or 300, cameras, own, allowed))
    assert (np.isinf(result.distances) == (result.indices == NOT_FOUND)).all()


def test_an_index_that_bounds_its_neighbors(caplog: pytest.LogCaptureFixture) -> None:
    vectors = np.random.default_rng(4).standard_normal((400, 8)).astype(np.float32)
    cameras, own, every = np.arange(400) % 2, np.array([-3, 0]), np.ones(400, bool)
    result = search_cameras(Bounded(build_index(vectors), 60), vectors[:2], 10, cameras, own)
    np.testing.assert_array_equal(result.indices, by_loops(vectors, vectors[:2], 10, cameras, own, every))
    assert not caplog.records
    farthest = build_index(vectors).search(vectors[:1], 0).indices[0, -1]
    with caplog.at_level(logging.WARNING):
        result = search_cameras(
            Bounded(build_index(vectors), 60), vectors[:1], 10, cameras, own[:1], np.arange(400) == farthest
        )
    assert message_with(caplog, "1 queries have fewer than 10 matches", "nearest 60")
    assert (result.indices == NOT_FOUND).all()


class Widths:
    """An index that notes how many queries it is asked about."""

    def __init__(self, index: Index) -> None:
        self.index, self.numbers = index, [0]

    def __len__(self) -> int:
        return len(self.index)

    def resolve_k(self, k: int) -> int:
        return self.index.resolve_k(k)

    def search(self, queries: Vectors, k: int = 0) -> SearchResult:
        self.numbers.append(len(queries))
        return self.index.search(queries, k)


def test_nothing_is_searched_where_no_image_counts() -> None:
    vectors = np.random.default_rng(5).standard_normal((200, 8)).astype(np.float32)
    cameras, own = np.arange(200) % 2, np.array([-3, 0, 1])
    index = Widths(build_index(vectors))
    result = search_cameras(index, vectors[:3], 10, cameras, own, np.zeros(200, bool))
    assert sum(index.numbers) == 0
    assert (result.indices == NOT_FOUND).all()
    assert np.isinf(result.distances).all()
    result = search_cameras(index, vectors[:3], 10, cameras, own, cameras == 0)  # the second one has no match at all
    assert sum(index.numbers) == 2
    np.testing.assert_array_equal(result.indices, by_loops(vectors, vectors[:3], 10, cameras, own, cameras == 0))


def test_cameras_as_people_call_them() -> None:
    by_name = Cameras("name", PATHS, only=["2", "00"])
    assert by_name.allowed is not None
    assert by_name.allowed.tolist() == [True, False, True]
    assert by_name.texts(np.array(["a/0001_c7.jpg", "b.jpg"])).tolist() == ["7", ""]
    by_folder = Cameras("folder", PATHS, only=["yard"])
    assert by_folder.allowed is not None
    assert by_folder.allowed.tolist() == [False, True, True]
    assert by_folder.of_queries(["/other/yard/x.jpg", "/photos/attic/x.jpg"]).tolist() == [by_folder.gallery[1], -3]
    assert Cameras("name", PATHS).allowed is None


def test_unknown_cameras() -> None:
    for source, name, rule in (
        ("folder", "gat", r"\(folders: gate, yard\), got 'gat'; did you mean gate\?"),
        ("name", "9", r"\(numbers in the names of files: 0, 1, 2\), got '9'"),
        ("name", "gate", "got 'gate'; see --camera_from_folder"),
        ("name", "-3", "got '-3'"),
    ):
        with pytest.raises(ReidError, match=rule):
            Cameras(source, PATHS, only=[name])
    with pytest.raises(ReidError, match=r"0, 1, .* 9 and 2 more\), got 'x'"):
        Cameras("name", [f"0001_c{number}.jpg" for number in range(12)], only=["x"])
    with pytest.raises(ReidError, match=r"files: none\), got '1'"):
        Cameras("name", ["a.jpg"], only=["1"])
