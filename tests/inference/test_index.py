import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from datasets.readers.market import UNKNOWN_ID
from inference import create_embeddings
from inference.index import KINDS, build_index
from inference.milvus_index import MilvusIndex
from inference.store import Embeddings, Gallery, ModelCard
from inference.stored_index import IndexSettings, open_index
from utils.errors import ReidError

CARD = ModelCard("best.pth", "ab" * 32, (64, 32), (0.5,) * 3, (0.2,) * 3, "bilinear", 1, 8)
VECTORS = np.random.default_rng(0).standard_normal((60, 8), np.float32)


def gallery(vectors: np.ndarray = VECTORS) -> Gallery:
    paths = np.array([f"/data/{row:04d}_c{row % 3}s1_000001_00.jpg" for row in range(len(vectors))])
    return Gallery(Embeddings(vectors, paths), CARD, False, np.arange(len(vectors)), np.arange(len(vectors)) % 3)


def needed(kind: str) -> None:
    pytest.importorskip({"hnsw": "faiss", "ivfpq": "faiss", "milvus": "milvus_lite"}.get(kind, "numpy"))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("kind", ["hnsw", "milvus"])
def test_every_kind_finds_what_flat_finds(kind: str, normalize: bool, tmp_path: Path) -> None:
    needed(kind)
    uri = str(tmp_path / "a.db") if kind == "milvus" else ""
    index = build_index(VECTORS, kind, normalize=normalize, uri=uri)
    distances, indices = index.search(VECTORS[:5] + 0.1, 7)
    wanted = build_index(VECTORS, normalize=normalize).search(VECTORS[:5] + 0.1, 7)
    np.testing.assert_array_equal(indices, wanted.indices)
    np.testing.assert_allclose(distances, wanted.distances, rtol=1e-3, atol=1e-5)
    assert len(index) == 60


def test_wrong_names() -> None:
    with pytest.raises(ReidError, match="must be one of flat, hnsw, ivfpq, milvus, got 'annoy'"):
        build_index(VECTORS, "annoy")
    with pytest.raises(ReidError, match=r"a URI belongs to kind milvus, got 'a.db' with hnsw"):
        IndexSettings("hnsw", uri="a.db")
    with pytest.raises(ReidError, match="milvus needs a URI, got none"):
        build_index(VECTORS, "milvus")
    assert KINDS[0] == "flat"


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
    needed(kind)
    wanted = build_index(VECTORS).search(VECTORS[:5], 9).indices
    for turn in range(2):
        with caplog.at_level(logging.INFO):
            index = open_index(gallery(), tmp_path, IndexSettings(kind))
        np.testing.assert_array_equal(index.search(VECTORS[:5], 9).indices, wanted)
        assert ("building" in caplog.text or "storing" in caplog.text) == (turn == 0 and kind != "flat")
        caplog.clear()
    assert {path.name for path in tmp_path.iterdir()} == files


def test_an_index_of_other_embeddings_is_refused(tmp_path: Path) -> None:
    needed("hnsw")
    open_index(gallery(), tmp_path, IndexSettings("hnsw"))
    mark = json.loads((tmp_path / "index_hnsw_cosine.json").read_text())
    assert (mark["kind"], mark["vectors"]["rows"], mark["parameters"]["links"]) == ("hnsw", 60, 32)
    for others in (VECTORS + 1, VECTORS[:59]):
        with pytest.raises(ReidError, match=r"must belong to the embeddings of its folder.*delete both files"):
            open_index(gallery(others), tmp_path, IndexSettings("hnsw"))
    (tmp_path / "index_hnsw_cosine.json").write_text("{")
    with pytest.raises(ReidError, match="delete both files"):
        open_index(gallery(), tmp_path, IndexSettings("hnsw"))


def test_an_unfinished_index_is_built_anew(tmp_path: Path) -> None:
    needed("hnsw")
    (tmp_path / "index_hnsw_cosine.faiss").write_text("unfinished")
    index = open_index(gallery(), tmp_path, IndexSettings("hnsw"))
    assert len(index) == 60


def test_milvus_keeps_galleries_apart_and_labels_with_them(tmp_path: Path) -> None:
    needed("milvus")
    uri = str(tmp_path / "shared.db")
    for name, vectors in (("one", VECTORS), ("two", -VECTORS[:50])):
        (tmp_path / name).mkdir()
        index = open_index(gallery(vectors), tmp_path / name, IndexSettings("milvus", uri=uri))
        assert len(index) == len(vectors)
        hits = index.find(vectors[7:8], 1)
        assert (hits.positions[0, 0], hits.person_ids[0, 0], hits.camera_ids[0, 0]) == (7, 7, 1)
        assert hits.paths[0, 0].endswith("0007_c1s1_000001_00.jpg")
    bare = build_index(VECTORS + 1, "milvus", uri=uri).find(VECTORS[:1], 1)
    assert bare.person_ids[0, 0] == UNKNOWN_ID


def test_one_changed_row_of_many_makes_an_index_stale(tmp_path: Path) -> None:
    needed("hnsw")
    many = np.random.default_rng(1).standard_normal((1500, 8), np.float32)
    open_index(gallery(many), tmp_path, IndexSettings("hnsw"))
    many[1] += 1  # a sample of 1,024 evenly spread rows leaves it out
    with pytest.raises(ReidError, match="delete both files"):
        open_index(gallery(many), tmp_path, IndexSettings("hnsw"))


def test_milvus_keeps_galleries_of_equal_vectors_apart(tmp_path: Path) -> None:
    needed("milvus")
    one, uri = gallery(), str(tmp_path / "shared.db")
    moved = np.char.replace(one.embeddings.paths, "/data/", "/elsewhere/")
    two = Gallery(Embeddings(VECTORS, moved), CARD, False, one.person_ids, one.camera_ids)
    for name, each in (("one", one), ("two", two), ("one", one)):
        (tmp_path / name).mkdir(exist_ok=True)
        index = open_index(each, tmp_path / name, IndexSettings("milvus", uri=uri))
        assert len(index) == 60
        assert index.find(VECTORS[7:8], 1).paths[0, 0] == each.embeddings.paths[7]


def test_a_partial_collection_is_filled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed("milvus")
    whole = gallery()
    open_index(whole, tmp_path, IndexSettings("milvus")).delete(whole.embeddings.paths[:25].tolist())
    with monkeypatch.context() as patch:
        patch.setattr(MilvusIndex, "upsert", lambda *_: None)
        with pytest.raises(ReidError, match=r"must hold 60 images after storing, but holds 35; their paths must"):
            open_index(whole, tmp_path, IndexSettings("milvus"))
    assert not (tmp_path / "index_milvus_cosine.json").exists()
    assert len(open_index(whole, tmp_path, IndexSettings("milvus"))) == 60


def test_milvus_says_when_images_share_a_path(tmp_path: Path) -> None:
    needed("milvus")
    one = gallery()
    paths = one.embeddings.paths.copy()
    paths[1] = paths[0]
    same = Gallery(Embeddings(VECTORS, paths), CARD, False, one.person_ids, one.camera_ids)
    with pytest.raises(ReidError, match="must hold 60 images after storing, but holds 59"):
        open_index(same, tmp_path, IndexSettings("milvus"))


@pytest.mark.slow
def test_a_collection_is_found_by_another_process(tmp_path: Path) -> None:
    needed("milvus")
    uri = str(tmp_path / "a.db")
    code = (
        "import sys, numpy as np; from inference.milvus_index import MilvusIndex, Entities\n"
        "from inference.milvus_server import Server\n"
        f"index = MilvusIndex(Server({uri!r}), 'people', 4); rows = np.arange(4)\n"
        "if sys.argv[1] == 'store': index.upsert(np.eye(4, dtype=np.float32), Entities(rows.astype(str), *3 * [rows]))\n"
        "print(index.search(np.eye(4, dtype=np.float32), 1).indices.ravel().tolist())"
    )
    root = Path(create_embeddings.__file__).parents[1]
    for turn in ("store", "find"):
        done = subprocess.run(
            [sys.executable, "-c", code, turn], cwd=root, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, "[0, 1, 2, 3]\n"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hnsw", "milvus"])
def test_libraries_do_not_talk(kind: str, tmp_path: Path) -> None:
    """In a process of its own: FAISS tells of missing variants when it is loaded, Milvus Lite when it starts."""
    needed(kind)
    uri = str(tmp_path / "a.db") if kind == "milvus" else ""
    code = (
        "import numpy as np; from utils.log import setup_logging; from inference.index import build_index\n"
        f"setup_logging(); build_index(np.eye(4, dtype=np.float32), {kind!r}, uri={uri!r})"
    )
    root = Path(create_embeddings.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
