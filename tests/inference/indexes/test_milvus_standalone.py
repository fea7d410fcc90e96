"""With a real server of Milvus, which is stopped and started again while it is used."""

import csv
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from inference import create_embeddings, get_similar
from inference.indexes.flat import FlatIndex
from inference.indexes.milvus import MilvusIndex, Records
from inference.indexes.milvus_server import Server
from tests.inference.indexes.standalone import Standalone
from utils.errors import ReidError

pymilvus = pytest.importorskip("pymilvus")
pytestmark = pytest.mark.slow

NUMBER, DIM = 2000, 64
VECTORS = np.random.default_rng(0).standard_normal((NUMBER, DIM), np.float32)
QUERIES = np.random.default_rng(1).standard_normal((20, DIM), np.float32)
PATHS = np.array([f"gallery/{row:05d}.jpg" for row in range(NUMBER)])
IDS, CAMERAS = np.arange(NUMBER) % 30, np.arange(NUMBER) % 4
WAITS = {"timeout": 120.0, "attempts": 7}  # a machine may be busy; no assertion is about time


def records(rows: np.ndarray) -> Records:
    return Records(PATHS[rows], IDS[rows], CAMERAS[rows], rows)


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    server = Standalone(tmp_path_factory.mktemp("standalone") / "milvus")
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture
def server(standalone: Standalone) -> Server:
    standalone.start()  # an earlier test may have left it stopped or locked
    return Server(standalone.uri, token="", **WAITS)


def check_as_flat(index: MilvusIndex, rows: np.ndarray, k: int = 20) -> None:
    """Every neighbor is found, at its distance."""
    result, exact = index.search(QUERIES, k), FlatIndex(VECTORS[rows]).search(QUERIES, k)
    np.testing.assert_array_equal(result.indices, rows[exact.indices])
    np.testing.assert_allclose(result.distances, exact.distances, atol=1e-5)


def test_fill_search_filter_upsert_delete(server: Server) -> None:
    index = MilvusIndex(server, "people", DIM)
    everything = np.arange(NUMBER)
    index.fill(VECTORS, records(everything))
    check_as_flat(index, everything)
    assert (np.sort(index.search(QUERIES[:2], 0).indices) == everything).all()

    own = CAMERAS[: len(QUERIES)]
    matches = index.find(QUERIES, 30, "identity < 20", own)
    for row, camera in enumerate(own):
        allowed = np.flatnonzero((IDS < 20) & (CAMERAS != camera))
        exact = FlatIndex(VECTORS[allowed]).search(QUERIES[row : row + 1], 30)
        np.testing.assert_array_equal(matches.records.positions[row], allowed[exact.indices[0]])

    index.upsert(-VECTORS[:1], Records(PATHS[:1], np.array([99]), np.array([9]), np.array([-1])))
    assert len(index) == NUMBER
    best = index.find(-VECTORS[:1], 1)
    assert (best.records.paths[0, 0], best.records.person_ids[0, 0], best.records.camera_ids[0, 0]) == (
        PATHS[0],
        99,
        9,
    )
    index.delete([*PATHS[:10], "never/people.jpg"])
    assert len(index) == NUMBER - 10
    check_as_flat(index, everything[10:])
    index.close()


def test_a_collection_that_left_the_memory_is_loaded_again(server: Server) -> None:
    index = MilvusIndex(server, "released", DIM)
    index.fill(VECTORS, records(np.arange(NUMBER)))
    client = server.connect()
    client.release_collection("released")
    check_as_flat(index, np.arange(NUMBER))
    server.disconnect(client)
    index.close()


def test_squared_euclidean_distance(server: Server) -> None:
    index = MilvusIndex(server, "raw", DIM, normalize=False)
    index.fill(VECTORS, records(np.arange(NUMBER)))
    result, exact = index.search(QUERIES, 20), FlatIndex(VECTORS, normalize=False).search(QUERIES, 20)
    np.testing.assert_array_equal(result.indices, exact.indices)
    np.testing.assert_allclose(result.distances, exact.distances, rtol=1e-5)
    index.close()


CLIENT = """
import numpy as np
from inference.indexes.milvus_server import Server
from tests.inference.indexes.test_milvus_standalone import DIM, NUMBER, QUERIES, VECTORS, WAITS, records
from inference.indexes.milvus import MilvusIndex

index = MilvusIndex(Server({uri!r}, token="", **WAITS), "shared", DIM)
print("ready", flush=True)
for rows in np.array_split(np.arange(NUMBER // 2, NUMBER), 10):
    index.upsert(VECTORS[rows], records(rows))
    assert (index.search(VECTORS[rows], 1).indices[:, 0] == rows).all()  # what is stored is seen at once
"""


def test_two_clients_at_once(server: Server) -> None:
    index = MilvusIndex(server, "shared", DIM)
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", CLIENT.format(uri=server.uri)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        client.stdout.readline()  # or its end
        for rows in np.array_split(np.arange(NUMBER // 2), 10):
            index.upsert(VECTORS[rows], records(rows))
            assert (index.search(VECTORS[rows], 1).indices[:, 0] == rows).all()  # what is stored is seen at once
        _, errors = client.communicate()
    assert client.returncode == 0, errors
    assert len(index) == NUMBER
    check_as_flat(index, np.arange(NUMBER))
    index.close()


def test_a_server_that_was_started_again_has_lost_nothing(standalone: Standalone, server: Server) -> None:
    index = MilvusIndex(server, "lasting", DIM)
    index.fill(VECTORS, records(np.arange(NUMBER)))
    standalone.stop()
    with pytest.raises(ReidError, match=r"Milvus must answer at .* after 2 attempts \(.*\); start the server"):
        MilvusIndex(Server(server.uri, token="", attempts=2), "lasting", DIM)
    standalone.start()
    check_as_flat(index, np.arange(NUMBER))  # its connection was broken
    again = MilvusIndex(server, "lasting", DIM)
    check_as_flat(again, np.arange(NUMBER))
    assert len(again) == NUMBER
    for each in (index, again):
        each.close()


def stop_after(batches: int, standalone: Standalone, patch: pytest.MonkeyPatch) -> list[int]:
    """Stop the server when some batches are stored; returns the numbers of images that are tried."""
    upsert, sizes = pymilvus.MilvusClient.upsert, []

    def stopping(client: object, collection: str, batch: list[object], **options: object) -> object:
        sizes.append(len(batch))
        if len(sizes) == batches + 1:
            standalone.stop()
        return upsert(client, collection, batch, **options)

    patch.setattr(pymilvus.MilvusClient, "upsert", stopping)
    return sizes


def test_a_command_whose_server_stops_goes_on_when_it_is_repeated(
    standalone: Standalone,
    checkpoint: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    standalone.start()
    monkeypatch.delenv("MILVUS_TOKEN", raising=False)
    monkeypatch.setattr("inference.index.Server", partial(Server, timeout=120.0, attempts=5))  # a busy machine
    shared = ["DATASETS.ROOT_DIR", str(images), "MODEL.PRETRAIN_PATH", str(checkpoint), "--precision", "fp32"]
    shared += ["TEST.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0", "TRAINER.ACCELERATOR", "cpu", "OUTPUT_DIR"]
    gallery = tmp_path / "gallery"
    assert create_embeddings.main([*shared, str(gallery)]) == 0
    search = [*shared, str(tmp_path / "search"), "--gallery_data", str(gallery)]
    command = [*search, "--index", "milvus", "--index_uri", standalone.uri]
    capfd.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr("inference.indexes.milvus.REQUEST_BYTES", 1)  # a batch for each image
        sizes = stop_after(3, standalone, patch)
        assert get_similar.main(command) == 2
    assert set(sizes[:4]) == {1}
    report = capfd.readouterr().err
    assert len([line for line in report.splitlines() if "Milvus must answer at" in line]) == 1
    assert "Traceback" not in report
    assert not (tmp_path / "search").exists()
    standalone.start()
    assert get_similar.main(command) == 0
    ours = read_rows(tmp_path / "search")
    assert len(ours) == 6 * 6
    assert get_similar.main(search) == 0
    exact = read_rows(tmp_path / "search")
    assert [row[:3] for row in ours] == [row[:3] for row in exact]
    np.testing.assert_allclose([float(row[5]) for row in ours], [float(row[5]) for row in exact], atol=1e-5)
    standalone.stop()
    assert get_similar.main(command) == 2


def read_rows(folder: Path) -> list[list[str]]:
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.reader(file))[1:]


def test_a_token(standalone: Standalone, monkeypatch: pytest.MonkeyPatch) -> None:
    standalone.start(locked=True)
    monkeypatch.setenv("MILVUS_TOKEN", "root:Milvus")
    index = MilvusIndex(Server(standalone.uri, **WAITS), "locked", DIM)
    index.upsert(VECTORS[:100], records(np.arange(100)))
    check_as_flat(index, np.arange(100))
    rule = r"refuses: UNAUTHENTICATED.*; set the environment's MILVUS_TOKEN to user:password"
    for token in ("", "root:wrong"):
        with pytest.raises(ReidError, match=rule):
            MilvusIndex(Server(standalone.uri, token=token, **WAITS), "locked", DIM)
    index.close()
