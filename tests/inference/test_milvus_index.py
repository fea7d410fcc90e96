"""With Milvus Lite: the same client as that of a server."""

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.flat_index import FlatIndex
from inference.milvus_index import Entities, MilvusIndex
from inference.milvus_server import Server
from utils.errors import ReidError

pymilvus = pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")

VECTORS = np.random.default_rng(0).standard_normal((300, 8), np.float32)
IDS, CAMERAS = np.arange(300) % 30, np.arange(300) % 4
PATHS = np.array([f"gallery/{row:04d}.jpg" for row in range(300)])


def entities(rows: np.ndarray) -> Entities:
    return Entities(PATHS[rows], IDS[rows], CAMERAS[rows], rows)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    return Server(str(tmp_path_factory.mktemp("milvus") / "gallery.db"))


@pytest.fixture(scope="module")
def stored(server: Server) -> Iterator[MilvusIndex]:
    index = MilvusIndex(server, "people", 8)
    index.upsert(VECTORS, entities(np.arange(300)))
    yield index
    index.close()


def test_search_as_flat(stored: MilvusIndex, server: Server) -> None:
    assert len(stored) == 300
    queries = np.random.default_rng(1).standard_normal((9, 8), np.float32)
    wanted = FlatIndex(VECTORS).search(queries, 20)
    for index in (stored, MilvusIndex(server, "people", 8)):  # the second finds what is stored
        distances, indices = index.search(queries, 20)
        np.testing.assert_array_equal(indices, wanted.indices)
        np.testing.assert_allclose(distances, wanted.distances, atol=1e-5)
    assert stored.search(queries, 0).indices.shape == (9, 300)


def test_squared_euclidean_distance(server: Server) -> None:
    index = MilvusIndex(server, "raw", 8, normalize=False)
    index.upsert(VECTORS, entities(np.arange(300)))
    distances, indices = index.search(VECTORS[:4] + 0.1, 5)
    wanted = FlatIndex(VECTORS, normalize=False).search(VECTORS[:4] + 0.1, 5)
    np.testing.assert_array_equal(indices, wanted.indices)
    np.testing.assert_allclose(distances, wanted.distances, rtol=1e-4)


def test_fields_and_expressions(stored: MilvusIndex) -> None:
    hits = stored.find(VECTORS[:5], 300, "camera in [1, 2] and identity != 7")
    rows = hits.positions[0][hits.positions[0] >= 0]
    assert set(rows) == set(np.flatnonzero(np.isin(CAMERAS, (1, 2)) & (IDS != 7)))
    np.testing.assert_array_equal(hits.paths[0][: len(rows)], PATHS[rows])
    np.testing.assert_array_equal(hits.person_ids[0][: len(rows)], IDS[rows])
    np.testing.assert_array_equal(hits.camera_ids[0][: len(rows)], CAMERAS[rows])
    left_over = hits.positions == -1
    assert left_over.any()
    assert (left_over == np.isinf(hits.distances)).all()
    assert (left_over == (hits.paths == "")).all()


def test_not_the_own_camera(stored: MilvusIndex) -> None:
    hits = stored.find(VECTORS[:8], 40, "identity < 20", CAMERAS[:8])
    for row in range(8):
        allowed = np.flatnonzero((IDS < 20) & (CAMERAS != CAMERAS[row]))
        wanted = FlatIndex(VECTORS[allowed]).search(VECTORS[row : row + 1], 40)
        np.testing.assert_array_equal(hits.positions[row], allowed[wanted.indices[0]])


def test_upsert_replaces_and_delete_removes(server: Server) -> None:
    index = MilvusIndex(server, "changing", 8)
    index.upsert(VECTORS, entities(np.arange(300)))
    index.upsert(-VECTORS[:1], Entities(PATHS[:1], np.array([99]), np.array([9]), np.array([-1])))
    assert len(index) == 300
    hits = index.find(-VECTORS[:1], 1)
    assert (hits.paths[0, 0], hits.person_ids[0, 0], hits.camera_ids[0, 0]) == (PATHS[0], 99, 9)
    index.delete([*PATHS[:10], "never/stored.jpg"])
    assert len(index) == 290
    assert not set(PATHS[:10]) & set(index.find(VECTORS[:1], 0).paths[0])
    index.delete([])


def test_batches(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.milvus_index._BATCH_BYTES", 50 * (1024 + 32))
    monkeypatch.setattr("inference.milvus_index._HITS_AT_ONCE", 7)
    index, sizes = MilvusIndex(server, "batches", 8), []
    upsert = index._client.upsert
    monkeypatch.setattr(index._client, "upsert", lambda *a, **k: sizes.append(len(a[1])) or upsert(*a, **k))
    index.upsert(VECTORS, entities(np.arange(300)))
    assert sizes == [50] * 6
    wanted = FlatIndex(VECTORS).search(VECTORS, 3)
    np.testing.assert_array_equal(index.search(VECTORS, 3).indices, wanted.indices)


def test_a_server_that_is_away(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(ReidError, match=r"Milvus must answer at http://127.0.0.1:9, but does not after 3 attempts"),
    ):
        MilvusIndex(Server("http://127.0.0.1:9", timeout=1), "people", 8)
    assert pauses == [0.5, 1.0]
    assert "does not answer; once more in 0.5 s" in caplog.text


def test_a_server_that_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    answers = [pymilvus.MilvusException(message="server unavailable: timeout"), 7]

    def request() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert Server("a.db").ask(request) == 7


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda index: index.find(VECTORS[:1], 5, "camera !!= 3"), "refuses: .*camera"),
        (lambda index: index.find(VECTORS[:1], 5, other_cameras=CAMERAS), "a camera for each of 1 queries"),
        (lambda index: index.search(VECTORS[:1, :3], 5), "queries must have 8 dimensions, got 3"),
        (lambda index: index.upsert(VECTORS[:2], entities(np.arange(3))), r"each of 2 vectors, got \[3, 3, 3, 3\]"),
        (
            lambda index: index.upsert(VECTORS[:1], Entities(["x" * 5000], IDS[:1], CAMERAS[:1], IDS[:1])),
            "paths must have 1 to 4096 bytes",
        ),
        (
            lambda index: index.upsert(VECTORS[:1], Entities(["caf\udce9"], IDS[:1], CAMERAS[:1], IDS[:1])),
            "paths must be UTF-8 in Milvus, got 'caf",
        ),
    ],
)
def test_mistakes(stored: MilvusIndex, call: Callable[[MilvusIndex], Any], rule: str) -> None:
    with pytest.raises(ReidError, match=rule):
        call(stored)


def test_more_neighbours_than_a_server_gives(stored: MilvusIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.milvus_index.MOST_NEIGHBOURS", 100)
    with pytest.raises(ReidError, match="k must be at most 100 in Milvus, got 300"):
        stored.search(VECTORS[:1], 0)


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(("dim", "normalize"), [(9, True), (8, False)])
def test_a_collection_of_another_kind(server: Server, dim: int, normalize: bool) -> None:
    with pytest.raises(ReidError, match=r"collection people at .* must hold vectors of .* got 8 and COSINE"):
        MilvusIndex(server, "people", dim, normalize=normalize)


def test_the_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(pymilvus, "MilvusClient", lambda **options: given.update(options))
    monkeypatch.setenv("MILVUS_TOKEN", "root:secret")
    server = Server("http://milvus:19530")
    server.connect()
    assert given["token"] == "root:secret"
    assert "secret" not in repr(server)
    monkeypatch.delenv("MILVUS_TOKEN")
    assert Server("a.db").token == ""


def test_an_address_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ReidError, match=r"refuses: .*needs start with"):
        MilvusIndex(Server(str(tmp_path / "gallery")), "people", 8)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(ReidError, match="which is not installed; pip install pymilvus milvus-lite, or use flat"):
        MilvusIndex(Server("a.db"), "people", 8)
