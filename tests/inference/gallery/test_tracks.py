import numpy as np
import pytest

from inference.gallery.store import Embeddings
from inference.gallery.tracks import track_means
from tests.support import memory_budget

NAMES = (
    *("/a/0007_c1s1_000001_01.jpg", "/b/0007_c1s1_000001_01.jpg", "/a/0007_c2s1_000001_01.jpg"),
    *("/a/0000_c1s1_000001_02.jpg", "/a/0007_c1s1_000011_01.jpg", "/a/0000_c1s1_000011_02.jpg"),
    *("/a/0009_c1s1_000011_03.jpg", "/a/0007_c1s1_000021_01.jpg", "/a/0009_c1s1_000031_01.jpg"),
)
TRACKS = [
    (3,),
    (5,),
    (0, 4, 7),
    (2,),
    (6, 8),
    (1,),
]  # rows: distractors, then by identity and camera, a folder after another


def images(vectors: np.ndarray) -> Embeddings:
    return Embeddings(vectors.astype(np.float32), np.array(NAMES))


@pytest.mark.parametrize("budget", [1, 4 * 4 * 4 * 4, 2**20])
def test_means_and_the_crop_that_is_most_like_each(budget: int) -> None:
    vectors = np.random.default_rng(0).standard_normal((len(NAMES), 4))
    with memory_budget(budget):
        blocks = list(track_means(images(vectors)))
    assert (len(blocks) == 1) == (budget == 2**20)
    means = np.stack([vectors[list(rows)].mean(axis=0) for rows in TRACKS])
    np.testing.assert_allclose(np.concatenate([block.vectors for block in blocks]), means, rtol=1e-5, atol=1e-6)
    for rows, mean, best in zip(TRACKS, means, np.concatenate([block.rows for block in blocks]), strict=True):
        cosines = [vectors[row] @ mean / np.linalg.norm(vectors[row]) for row in rows]
        assert best == rows[int(np.argmax(cosines))]


def test_of_equal_crops_the_first() -> None:
    (block,) = track_means(images(np.ones((len(NAMES), 3))))
    assert block.rows.tolist() == [rows[0] for rows in TRACKS]
