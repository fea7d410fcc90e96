import numpy as np
import pytest

from evaluation.ranking import evaluate_ranking
from inference.accuracy import count_accuracy
from inference.gallery.store import Embeddings


def embeddings(vectors: list[list[float]], names: list[str]) -> Embeddings:
    return Embeddings(np.array(vectors, np.float32), np.array([f"/folder/{name}_000001_00.jpg" for name in names]))


def test_the_two_counts_differ_by_the_own_camera() -> None:
    queries = embeddings([[1, 0], [0, 1], [1, 0.9]], ["0001_c1s1", "0002_c1s1", "0003_c1s1"])
    gallery = embeddings([[1, 0.01], [1, 0.5], [0, 1], [1, 1]], ["0001_c1s1", "0002_c2s1", "0002_c1s1", "0001_c2s1"])
    accuracy = count_accuracy(queries, gallery, np.array([0, 2, 3]))
    assert accuracy.nearest == pytest.approx(2 / 3)
    # 0001: its own camera's image leaves, 0002 comes first; 0002: the same; 0003 has no match at all.
    assert (accuracy.rank1, accuracy.num_valid) == (0.0, 2)
    text = str(accuracy)
    assert "all gallery images (the original count: own camera included): 66.67% of 3 queries" in text
    assert "camera-aware without junk (rank-1 of test.py): 0.00% of 2 queries with a match from another" in text


def test_as_the_evaluation_counts() -> None:
    rng = np.random.default_rng(0)
    ids, cameras = rng.integers(1, 6, (2, 40)), rng.integers(1, 4, (2, 40))
    vectors = rng.standard_normal((2, 40, 6)).astype(np.float32)
    sides = [
        embeddings(vectors[side].tolist(), [f"{i:04d}_c{c}s1" for i, c in zip(ids[side], cameras[side], strict=True)])
        for side in (0, 1)
    ]
    wanted = evaluate_ranking(vectors[0], vectors[1], ids[0], ids[1], cameras[0], cameras[1])
    accuracy = count_accuracy(*sides, np.zeros(40, np.int64))
    assert accuracy.rank1 == wanted.cmc[1]
    assert accuracy.nearest == pytest.approx((ids[0] == ids[1][0]).mean())


def test_names_without_identity() -> None:
    named, plain = embeddings([[1, 0], [0, 1]], ["0001_c1s1", "x"]), embeddings([[1, 0], [0, 1]], ["a", "b"])
    for queries, gallery, side in ((plain, named, "query"), (named, plain, "gallery")):
        accuracy = count_accuracy(queries, gallery, np.array([0, 1]))
        assert accuracy.nearest is None
        assert accuracy.rank1 is None
        assert f"accuracy: unknown, since no {side} file's name tells an identity" in str(accuracy)
    some = count_accuracy(named, embeddings([[1, 0], [0, 1]], ["0001_c2s1", "z"]), np.array([0, 1]))
    assert (some.nearest, some.rank1, some.num_known) == (1.0, 1.0, 1)
    assert "the 1 of 2 queries whose names tell an identity" in str(some)


def test_centroids_have_no_camera_aware_count() -> None:
    side = embeddings([[1, 0], [0, 1]], ["0001_c1s1", "0002_c2s1"])
    accuracy = count_accuracy(side, side, np.array([0, 0]), centroids=True)
    assert (accuracy.nearest, accuracy.rank1) == (0.5, None)
    assert str(accuracy).startswith("accuracy, nearest centroid: 50.00% of 2 queries\n")
    assert "unknown, since a centroid joins cameras; test.py counts them" in str(accuracy)


def test_one_camera_only() -> None:
    side = embeddings([[1, 0], [0, 1]], ["0001_c1s1", "0002_c1s1"])
    accuracy = count_accuracy(side, side, np.array([0, 1]))
    assert accuracy.nearest == 1.0
    assert accuracy.rank1 is None
    assert "camera-aware without junk: unknown, camera_rule leaves none of 2 queries a match" in str(accuracy)
