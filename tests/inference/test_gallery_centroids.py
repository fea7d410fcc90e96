import pytest
import torch

from inference.gallery_centroids import gallery_centroids
from utils.errors import ReidError


def test_identities_are_averaged_distractors_stay_and_junk_leaves() -> None:
    ids = torch.tensor([7, 0, -1, 3, 7, 0, 3, 7, -2])
    vectors = torch.randn(9, 4)
    centroids, people, first = gallery_centroids(vectors, ids)
    assert people.tolist() == [0, 0, 3, 7]
    assert first.tolist() == [1, 5, 3, 0]
    expected = [
        vectors[1],
        vectors[5],
        (vectors[3] + vectors[6]) / 2,
        (vectors[0] + vectors[4] + vectors[7]) / 3,
    ]
    torch.testing.assert_close(centroids, torch.stack(expected))


def test_only_distractors_and_only_junk() -> None:
    vectors = torch.randn(2, 3)
    centroids, people, first = gallery_centroids(vectors.double(), torch.zeros(2, dtype=torch.int32))
    assert first.tolist() == [0, 1]
    assert people.tolist() == [0, 0]
    torch.testing.assert_close(centroids, vectors)
    with pytest.raises(ReidError, match="got junk only"):
        gallery_centroids(vectors, torch.tensor([-1, -1]))
    with pytest.raises(ReidError, match="each of the 2 vectors, got 1"):
        gallery_centroids(vectors, torch.tensor([1]))
