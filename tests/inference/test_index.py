import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from inference.choices import INDEX_KINDS
from inference.index import build_index
from utils.errors import ReidError

ROOT = Path(__file__).resolve().parents[2]
VECTORS = np.random.default_rng(0).standard_normal((60, 8), np.float32)


def require(kind: str) -> None:
    pytest.importorskip({"hnsw": "faiss", "ivfpq": "faiss", "milvus": "milvus_lite"}.get(kind, "numpy"))


def uri_of(kind: str, folder: Path) -> str:
    return str(folder / "a.db") if kind == "milvus" else ""


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("kind", ["hnsw", "milvus"])
def test_every_kind_finds_what_flat_finds(kind: str, normalize: bool, tmp_path: Path) -> None:
    require(kind)
    index = build_index(VECTORS, kind, normalize=normalize, uri=uri_of(kind, tmp_path))
    distances, indices = index.search(VECTORS[:5] + 0.1, 7)
    exact = build_index(VECTORS, normalize=normalize).search(VECTORS[:5] + 0.1, 7)
    np.testing.assert_array_equal(indices, exact.indices)
    np.testing.assert_allclose(distances, exact.distances, rtol=1e-3, atol=1e-5)
    assert len(index) == 60


def test_wrong_names() -> None:
    with pytest.raises(ReidError, match="must be one of flat, hnsw, ivfpq, milvus, got 'annoy'"):
        build_index(VECTORS, "annoy")
    with pytest.raises(ReidError, match=r"a URI belongs to kind milvus, got 'a.db' with hnsw"):
        build_index(VECTORS, "hnsw", uri="a.db")
    with pytest.raises(ReidError, match="milvus needs a URI, got none"):
        build_index(VECTORS, "milvus")


@pytest.mark.parametrize("kind", INDEX_KINDS)
def test_no_queries_have_no_neighbors(kind: str, tmp_path: Path) -> None:
    """As `extract([])` gives them."""
    require(kind)
    vectors = np.random.default_rng(0).standard_normal((10_000, 8), np.float32) if kind == "ivfpq" else VECTORS
    index = build_index(vectors, kind, uri=uri_of(kind, tmp_path))
    result = index.search(np.empty((0, 8), np.float32), 3)
    assert result.distances.shape == result.indices.shape == (0, 3)
    assert (result.distances.dtype, result.indices.dtype) == (np.float32, np.int64)
    with pytest.raises(ReidError, match="queries must have 8 dimensions, got 7"):
        index.search(np.empty((0, 7), np.float32), 3)


@pytest.mark.parametrize("kind", INDEX_KINDS)
def test_a_vector_of_zeros_is_at_distance_one_from_all(kind: str, tmp_path: Path) -> None:
    require(kind)
    vectors = np.random.default_rng(0).standard_normal((10_000 if kind == "ivfpq" else 60, 8), np.float32)
    vectors[4] = 0
    index = build_index(vectors, kind, uri=uri_of(kind, tmp_path))
    queries = np.stack([vectors[0], vectors[4], -vectors[1]])
    k = 60 if kind != "ivfpq" else 400
    distances, indices = index.search(queries, k)
    np.testing.assert_allclose(distances[1], 1.0, atol=1e-6)
    np.testing.assert_allclose(distances[indices == 4], 1.0, atol=1e-6)
    if kind != "ivfpq":
        assert (indices == 4).sum() == 3
        exact = build_index(vectors).search(queries[[0, 2]], k)
        np.testing.assert_array_equal(indices[[0, 2]], exact.indices)


@pytest.mark.parametrize("kind", INDEX_KINDS)
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(kind: str, number: float, tmp_path: Path) -> None:
    require(kind)
    vectors = np.random.default_rng(0).standard_normal((10_000 if kind == "ivfpq" else 60, 8), np.float32)
    bad = vectors.copy()
    bad[7, 3] = number
    with pytest.raises(ReidError, match="vectors must be finite, got NaN or infinity"):
        build_index(bad, kind, uri=uri_of(kind, tmp_path))
    index = build_index(vectors, kind, uri=uri_of(kind, tmp_path))
    with pytest.raises(ReidError, match="queries must be finite, got NaN or infinity"):
        index.search(bad[7:8], 3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hnsw", "milvus"])
def test_libraries_do_not_talk(kind: str, tmp_path: Path) -> None:
    """In a process of its own: FAISS tells of missing variants when it is loaded, Milvus Lite when it starts."""
    require(kind)
    uri = uri_of(kind, tmp_path)
    code = (
        "import numpy as np; from utils.log import setup_logging; from inference.index import build_index\n"
        f"setup_logging(); build_index(np.eye(4, dtype=np.float32), {kind!r}, uri={uri!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
