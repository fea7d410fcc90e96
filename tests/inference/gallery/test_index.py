import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from datasets.preprocessing import Preprocessing
from datasets.readers.market import UNKNOWN_ID
from inference.gallery.index import load_or_build_index, open_living
from inference.gallery.store import Embeddings, Gallery, ModelCard
from inference.index import build_index
from inference.indexes.milvus import MilvusIndex, Records
from utils.errors import ReidError

ROOT = Path(__file__).resolve().parents[3]
CARD = ModelCard("best.pth", "ab" * 32, 8, Preprocessing((64, 32)))
VECTORS = np.random.default_rng(0).standard_normal((60, 8), np.float32)


def gallery(vectors: np.ndarray = VECTORS) -> Gallery:
    paths = np.array([f"/data/{row:04d}_c{row % 3}s1_000001_00.jpg" for row in range(len(vectors))])
    return Gallery(Embeddings(vectors, paths), CARD, False, np.arange(len(vectors)), np.arange(len(vectors)) % 3)


def require(kind: str) -> None:
    pytest.importorskip({"hnsw": "faiss", "ivfpq": "faiss", "milvus": "milvus_lite"}.get(kind, "numpy"))


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("flat", set()),
        ("hnsw", {"index_hnsw_cosine.faiss", "index_hnsw_cosine.json"}),
        ("milvus", {"milvus.db", "index_milvus_cosine.json"}),
    ],
)
def test_built_once_and_found_again(
    kind: str, files: set[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    require(kind)
    exact = build_index(VECTORS).search(VECTORS[:5], 9).indices
    for turn in range(2):
        with caplog.at_level(logging.INFO):
            index = load_or_build_index(gallery(), tmp_path, kind)
        np.testing.assert_array_equal(index.search(VECTORS[:5], 9).indices, exact)
        assert ("building" in caplog.text or "storing" in caplog.text) == (turn == 0 and kind != "flat")
        caplog.clear()
    assert {path.name for path in tmp_path.iterdir()} == files


def test_an_index_of_other_embeddings_is_refused(tmp_path: Path) -> None:
    require("hnsw")
    load_or_build_index(gallery(), tmp_path, "hnsw")
    mark = json.loads((tmp_path / "index_hnsw_cosine.json").read_text())
    assert (mark["kind"], mark["vectors"]["rows"], mark["parameters"]["links"]) == ("hnsw", 60, 32)
    for others in (VECTORS + 1, VECTORS[:59]):
        with pytest.raises(ReidError, match=r"must belong to the embeddings of its folder.*delete both files"):
            load_or_build_index(gallery(others), tmp_path, "hnsw")
    for text in ("{", "[]", "[" * 100_000):
        (tmp_path / "index_hnsw_cosine.json").write_text(text)
        with pytest.raises(ReidError, match="delete both files"):
            load_or_build_index(gallery(), tmp_path, "hnsw")


def test_an_unfinished_index_is_built_again(tmp_path: Path) -> None:
    require("hnsw")
    (tmp_path / "index_hnsw_cosine.faiss").write_text("unfinished")
    index = load_or_build_index(gallery(), tmp_path, "hnsw")
    assert len(index) == 60


def test_milvus_keeps_galleries_apart_and_labels_with_them(tmp_path: Path) -> None:
    require("milvus")
    uri = str(tmp_path / "shared.db")
    for name, vectors in (("one", VECTORS), ("two", -VECTORS[:50])):
        (tmp_path / name).mkdir()
        index = load_or_build_index(gallery(vectors), tmp_path / name, "milvus", uri=uri)
        assert len(index) == len(vectors)
        records = index.find(vectors[7:8], 1).records
        assert (records.positions[0, 0], records.person_ids[0, 0], records.camera_ids[0, 0]) == (7, 7, 1)
        assert records.paths[0, 0].endswith("0007_c1s1_000001_00.jpg")
    bare = build_index(VECTORS + 1, "milvus", uri=uri).find(VECTORS[:1], 1)
    assert bare.records.person_ids[0, 0] == UNKNOWN_ID


def test_one_changed_row_of_many_makes_an_index_stale(tmp_path: Path) -> None:
    require("hnsw")
    many = np.random.default_rng(1).standard_normal((1500, 8), np.float32)
    load_or_build_index(gallery(many), tmp_path, "hnsw")
    many[1] += 1  # a sample of 1,024 evenly spread rows leaves it out
    with pytest.raises(ReidError, match="delete both files"):
        load_or_build_index(gallery(many), tmp_path, "hnsw")


def test_milvus_keeps_galleries_of_equal_vectors_apart(tmp_path: Path) -> None:
    require("milvus")
    one, uri = gallery(), str(tmp_path / "shared.db")
    moved = np.char.replace(one.embeddings.paths, "/data/", "/elsewhere/")
    two = Gallery(Embeddings(VECTORS, moved), CARD, False, one.person_ids, one.camera_ids)
    for name, each in (("one", one), ("two", two), ("one", one)):
        (tmp_path / name).mkdir(exist_ok=True)
        index = load_or_build_index(each, tmp_path / name, "milvus", uri=uri)
        assert len(index) == 60
        assert index.find(VECTORS[7:8], 1).records.paths[0, 0] == each.embeddings.paths[7]


def test_a_partial_collection_is_filled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("milvus")
    whole = gallery()
    load_or_build_index(whole, tmp_path, "milvus").delete(whole.embeddings.paths[:25].tolist())
    with monkeypatch.context() as patch:
        patch.setattr(MilvusIndex, "upsert", lambda *_: None)
        with pytest.raises(ReidError, match=r"must hold 60 images after storing, but holds 35; their paths must"):
            load_or_build_index(whole, tmp_path, "milvus")
    assert not (tmp_path / "index_milvus_cosine.json").exists()
    assert len(load_or_build_index(whole, tmp_path, "milvus")) == 60


def test_milvus_says_when_images_share_a_path(tmp_path: Path) -> None:
    require("milvus")
    one = gallery()
    paths = one.embeddings.paths.copy()
    paths[1] = paths[0]
    same = Gallery(Embeddings(VECTORS, paths), CARD, False, one.person_ids, one.camera_ids)
    with pytest.raises(ReidError, match="must hold 60 images after storing, but holds 59"):
        load_or_build_index(same, tmp_path, "milvus")


@pytest.mark.parametrize("first", ["relative", "absolute"])
def test_a_living_collection_stays_as_clients_left_it(
    first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("milvus")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    places = [Path("out"), tmp_path / "out"] if first == "relative" else [tmp_path / "out", Path("out")]
    whole = gallery()
    index = open_living(whole, places[0])
    index.delete(whole.embeddings.paths[:7].tolist())
    index.upsert(VECTORS[:1], Records(np.array(["new.jpg"]), *np.array([[1], [2], [2**41]])))
    for turn in range(4):
        index.close()
        index = open_living(whole, places[turn % 2])
        assert len(index) == 54
        if turn == 1:  # another folder of the same gallery, as on another machine
            (tmp_path / "out" / "index_milvus_living.json").unlink()
    index.delete([*whole.embeddings.paths[7:].tolist(), "new.jpg"])
    index.close()
    index = open_living(whole, places[0])
    assert len(index) == 0
    assert (index.search(VECTORS[:1], 1).indices == -1).all()
    index.close()


def test_a_living_collection_that_was_not_filled_to_the_end_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("milvus")
    whole, upsert = gallery(), MilvusIndex.upsert

    def some(index: MilvusIndex, vectors: np.ndarray, records: Records) -> None:
        upsert(index, vectors[:20], Records(*(column[:20] for column in records)))

    with monkeypatch.context() as patch:
        patch.setattr(MilvusIndex, "upsert", some)
        with pytest.raises(ReidError, match="must hold 60 images after storing, but holds 20"):
            open_living(whole, tmp_path)
    assert not (tmp_path / "index_milvus_living.json").exists()
    index = open_living(whole, tmp_path)
    np.testing.assert_array_equal(index.search(VECTORS, 1).indices[:, 0], np.arange(60))
    index.close()


@pytest.mark.parametrize("other_exists", [False, True])
def test_a_living_collection_is_not_begun_a_second_time_elsewhere(other_exists: bool, tmp_path: Path) -> None:
    require("milvus")
    whole, other = gallery(), tmp_path / "other.db"
    index = open_living(whole, tmp_path)
    index.delete(whole.embeddings.paths[:7].tolist())
    index.close()
    if other_exists:
        build_index(VECTORS, "milvus", uri=str(other)).close()
    mark = tmp_path / "index_milvus_living.json"
    text = mark.read_text()
    for _ in range(2):
        with pytest.raises(
            ReidError, match=r"--index_uri must be the Milvus that holds .*other.db has none of them;"
        ):
            open_living(whole, tmp_path, str(other))
    assert other.exists() == other_exists
    assert mark.read_text() == text
    index = open_living(whole, tmp_path)
    assert len(index) == 53
    index.close()
    mark.unlink()  # as the message says
    index = open_living(whole, tmp_path, str(other))
    assert len(index) == 60
    index.close()


def test_a_gallery_that_was_embedded_again_says_what_it_lacks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    require("milvus")
    open_living(gallery(), tmp_path).close()
    assert "added" not in caplog.text
    (tmp_path / "added").mkdir()
    for name in ("one.jpg", "two.png", ".changes.lock"):
        (tmp_path / "added" / name).touch()
    index = open_living(gallery(VECTORS + 1), tmp_path)
    assert "2 images in" in caplog.text
    assert "added to an earlier gallery; the new collection begins without them" in caplog.text
    assert len(index) == 60
    index.close()


@pytest.mark.slow
def test_a_collection_is_found_by_another_process(tmp_path: Path) -> None:
    require("milvus")
    uri = str(tmp_path / "a.db")
    code = (
        "import sys, numpy as np; from inference.indexes.milvus import MilvusIndex, Records\n"
        "from inference.indexes.milvus_server import Server\n"
        f"index = MilvusIndex(Server({uri!r}), 'people', 4); rows = np.arange(4)\n"
        "if sys.argv[1] == 'store': index.upsert(np.eye(4, dtype=np.float32), Records(rows.astype(str), *3 * [rows]))\n"
        "print(index.search(np.eye(4, dtype=np.float32), 1).indices.ravel().tolist())"
    )
    for turn in ("store", "find"):
        done = subprocess.run(
            [sys.executable, "-c", code, turn], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, "[0, 1, 2, 3]\n"), done.stderr
