"""With Milvus Lite: the same client as that of a server."""

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.indexes.flat import FlatIndex
from inference.indexes.milvus import MilvusIndex, Records, literal
from inference.indexes.milvus_server import Server
from utils.errors import ReidError

pymilvus = pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")

VECTORS = np.random.default_rng(0).standard_normal((300, 8), np.float32)
IDS, CAMERAS = np.arange(300) % 30, np.arange(300) % 4
PATHS = np.array([f"gallery/{row:04d}.jpg" for row in range(300)])


def records(rows: np.ndarray) -> Records:
    return Records(PATHS[rows], IDS[rows], CAMERAS[rows], rows)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    return Server(str(tmp_path_factory.mktemp("milvus") / "gallery.db"))


@pytest.fixture(scope="module")
def people(server: Server) -> Iterator[MilvusIndex]:
    index = MilvusIndex(server, "people", 8)
    index.upsert(VECTORS, records(np.arange(300)))
    yield index
    index.close()


def test_search_as_flat(people: MilvusIndex, server: Server) -> None:
    assert len(people) == 300
    queries = np.random.default_rng(1).standard_normal((9, 8), np.float32)
    exact = FlatIndex(VECTORS).search(queries, 20)
    for index in (people, MilvusIndex(server, "people", 8)):  # the second finds what is stored
        distances, indices = index.search(queries, 20)
        np.testing.assert_array_equal(indices, exact.indices)
        np.testing.assert_allclose(distances, exact.distances, atol=1e-5)
    assert people.search(queries, 0).indices.shape == (9, 300)


def test_squared_euclidean_distance(server: Server) -> None:
    index = MilvusIndex(server, "raw", 8, normalize=False)
    index.upsert(VECTORS, records(np.arange(300)))
    distances, indices = index.search(VECTORS[:4] + 0.1, 5)
    exact = FlatIndex(VECTORS, normalize=False).search(VECTORS[:4] + 0.1, 5)
    np.testing.assert_array_equal(indices, exact.indices)
    np.testing.assert_allclose(distances, exact.distances, rtol=1e-4)


def test_images_by_their_positions(people: MilvusIndex) -> None:
    vectors, stored = people.at([7, 250, 4000])
    order = np.argsort(stored.positions)
    np.testing.assert_array_equal(stored.positions[order], [7, 250])
    np.testing.assert_array_equal(stored.paths[order], PATHS[[7, 250]])
    np.testing.assert_array_equal(stored.camera_ids[order], CAMERAS[[7, 250]])
    np.testing.assert_allclose(vectors[order], VECTORS[[7, 250]], rtol=1e-5)
    none, records_of_none = people.at([4000])
    assert none.shape == (0, 8)
    assert len(records_of_none.paths) == 0


def test_fields_and_expressions(people: MilvusIndex) -> None:
    hits = people.find(VECTORS[:5], 300, "camera in [1, 2] and identity != 7")
    rows = hits.records.positions[0][hits.records.positions[0] >= 0]
    assert set(rows) == set(np.flatnonzero(np.isin(CAMERAS, (1, 2)) & (IDS != 7)))
    np.testing.assert_array_equal(hits.records.paths[0][: len(rows)], PATHS[rows])
    np.testing.assert_array_equal(hits.records.person_ids[0][: len(rows)], IDS[rows])
    np.testing.assert_array_equal(hits.records.camera_ids[0][: len(rows)], CAMERAS[rows])
    left_over = hits.records.positions == -1
    assert left_over.any()
    assert (left_over == np.isinf(hits.distances)).all()
    assert (left_over == (hits.records.paths == "")).all()


def test_not_the_own_camera(people: MilvusIndex) -> None:
    hits = people.find(VECTORS[:8], 40, "identity < 20", CAMERAS[:8])
    for row in range(8):
        allowed = np.flatnonzero((IDS < 20) & (CAMERAS != CAMERAS[row]))
        exact = FlatIndex(VECTORS[allowed]).search(VECTORS[row : row + 1], 40)
        np.testing.assert_array_equal(hits.records.positions[row], allowed[exact.indices[0]])


def test_upsert_replaces_and_delete_removes(server: Server) -> None:
    index = MilvusIndex(server, "changing", 8)
    index.upsert(VECTORS, records(np.arange(300)))
    index.upsert(-VECTORS[:1], Records(PATHS[:1], np.array([99]), np.array([9]), np.array([-1])))
    assert len(index) == 300
    hits = index.find(-VECTORS[:1], 1)
    assert (hits.records.paths[0, 0], hits.records.person_ids[0, 0], hits.records.camera_ids[0, 0]) == (
        PATHS[0],
        99,
        9,
    )
    index.delete([*PATHS[:10], "never/people.jpg"])
    assert len(index) == 290
    assert not set(PATHS[:10]) & set(index.find(VECTORS[:1], 0).records.paths[0])
    index.delete([])


STRANGE = ["it's.jpg", 'a "b".jpg', "a\\b.jpg", "a\nb.jpg", "a\rb.jpg", "a\tb.jpg", "x'] or path not in ['y.jpg",
           '"] or path not in ["y.jpg', "{x}.jpg", "%.jpg", "가.jpg", "a\u2028b.jpg", "\\"]  # fmt: skip


def test_names_are_data_and_no_part_of_a_filter(server: Server) -> None:
    index = MilvusIndex(server, "strange", 8)
    number = len(STRANGE)
    rows = np.arange(number)
    index.upsert(VECTORS[:number], Records(STRANGE, rows, rows, rows))
    for name in STRANGE:
        matches = index.find(VECTORS[:1], 0, where=f"path == {literal(name)}")
        assert matches.records.paths[0][0] == name
        assert (matches.records.positions[0] >= 0).sum() == 1
    for remaining, name in enumerate(reversed(STRANGE)):
        index.delete([name])
        assert len(index) == number - remaining - 1
    index.close()


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_not_stored(server: Server, number: float) -> None:
    index = MilvusIndex(server, "finite", 8)
    vectors = VECTORS[:2].copy()
    vectors[1, 3] = number
    with pytest.raises(ReidError, match="vectors must be finite, got NaN or infinity"):
        index.upsert(vectors, records(np.arange(2)))
    assert len(index) == 0
    with pytest.raises(ReidError, match="queries must be finite"):
        index.find(vectors, 1)
    index.close()


def test_a_closed_file_is_free_for_others(tmp_path: Path) -> None:
    """Milvus Lite lets one process open a file; two indices of this process share it."""
    server = Server(str(tmp_path / "a.db"))
    first, second = MilvusIndex(server, "one", 8), MilvusIndex(server, "two", 8)
    first.close()
    first.close()
    with pytest.raises(ReidError, match="collection one must be open, but was closed; make another MilvusIndex"):
        len(first)
    second.upsert(VECTORS[:1], records(np.arange(1)))  # still open
    code = (
        "from inference.indexes.milvus import MilvusIndex, Server\n"
        f"index = MilvusIndex(Server({server.uri!r}), 'two', 8)\n"
        "print(len(index))"
    )
    root = Path(__file__).resolve().parents[3]

    def open_elsewhere() -> "subprocess.CompletedProcess[str]":
        return subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)

    assert "refuses: Open local milvus failed" in open_elsewhere().stderr
    second.close()
    done = open_elsewhere()
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_a_refused_collection_lets_the_file_go(tmp_path: Path) -> None:
    server = Server(str(tmp_path / "a.db"))
    MilvusIndex(server, "one", 8).close()
    with pytest.raises(ReidError, match="must hold vectors of 9 dimensions"):
        MilvusIndex(server, "one", 9)
    from milvus_lite.db import MilvusLite

    MilvusLite(server.uri).close()  # refused while another holds it


def test_batches(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.indexes.milvus.REQUEST_BYTES", 50 * (1024 + 32))
    monkeypatch.setattr("inference.indexes.milvus.ANSWER_RECORDS", 7)
    index, sizes = MilvusIndex(server, "batches", 8), []
    upsert = pymilvus.MilvusClient.upsert
    monkeypatch.setattr(pymilvus.MilvusClient, "upsert", lambda *a, **k: sizes.append(len(a[2])) or upsert(*a, **k))
    index.upsert(VECTORS, records(np.arange(300)))
    assert sizes == [50] * 6
    exact = FlatIndex(VECTORS).search(VECTORS, 3)
    np.testing.assert_array_equal(index.search(VECTORS, 3).indices, exact.indices)


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


def test_an_error_of_grpc_takes_one_line(server: Server) -> None:
    import grpc

    class Fault(grpc.RpcError):
        def __init__(self, code: grpc.StatusCode) -> None:
            self._code = code

        def code(self) -> grpc.StatusCode:
            return self._code

        def details(self) -> str:
            return "more than\na line"

    def fail(code: grpc.StatusCode) -> None:
        raise Fault(code)

    with pytest.raises(ReidError, match=r"refuses: RESOURCE_EXHAUSTED: more than a line$"):
        server.ask(lambda: fail(grpc.StatusCode.RESOURCE_EXHAUSTED))
    with pytest.raises(ReidError, match=r"does not after one attempt \(DEADLINE_EXCEEDED: more than a line\)"):
        Server("a.db", attempts=0).ask(lambda: fail(grpc.StatusCode.DEADLINE_EXCEEDED))


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
        (lambda index: index.upsert(VECTORS[:2], records(np.arange(3))), r"each of 2 vectors, got \[3, 3, 3, 3\]"),
        (
            lambda index: index.upsert(VECTORS[:1], Records(["x" * 5000], IDS[:1], CAMERAS[:1], IDS[:1])),
            "paths must have 1 to 4096 bytes",
        ),
        (
            lambda index: index.upsert(VECTORS[:1], Records(["caf\udce9"], IDS[:1], CAMERAS[:1], IDS[:1])),
            "paths must be UTF-8 in Milvus, got 'caf",
        ),
    ],
)
def test_mistakes(people: MilvusIndex, call: Callable[[MilvusIndex], Any], rule: str) -> None:
    with pytest.raises(ReidError, match=rule):
        call(people)


def test_more_neighbors_than_a_server_gives(people: MilvusIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.indexes.milvus.MAX_NEIGHBORS", 100)
    with pytest.raises(ReidError, match="k must be at most 100 in Milvus, got 300"):
        people.search(VECTORS[:1], 0)


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(("dim", "normalize"), [(9, True), (8, False)])
def test_a_collection_of_another_kind(server: Server, dim: int, normalize: bool) -> None:
    with pytest.raises(ReidError, match=r"collection people at .* must hold vectors of .* got 8 and COSINE"):
        MilvusIndex(server, "people", dim, normalize=normalize)


def test_the_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {}
    monkeypatch.setattr(pymilvus, "MilvusClient", lambda **values: options.update(values))
    monkeypatch.setenv("MILVUS_TOKEN", "root:secret")
    server = Server("http://milvus:19530")
    server.connect()
    assert options["token"] == "root:secret"
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
