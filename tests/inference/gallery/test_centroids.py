import numpy as np
import pytest
import torch

from inference.gallery.centroids import centroid_embeddings
from inference.gallery.store import Embeddings
from utils.errors import ReidError


def images(ids: list[int]) -> Embeddings:
    paths = np.array([f"/x/{person:04d}_c1s1_{row}.jpg" if person >= 0 else f"/x/{person}_c1s1_{row}.jpg"
                      for row, person in enumerate(ids)])  # fmt: skip
    return Embeddings(torch.randn(len(ids), 4).numpy(), paths)


def test_identities_are_averaged_distractors_stay_and_junk_leaves() -> None:
    gallery = images([7, 0, -1, 3, 7, 0, 3, 7, -2])
    vectors, people = gallery.vectors, centroid_embeddings(gallery)
    assert people.paths.tolist() == gallery.paths[[1, 5, 3, 0]].tolist()
    means = [vectors[1], vectors[5], (vectors[3] + vectors[6]) / 2, (vectors[0] + vectors[4] + vectors[7]) / 3]
    np.testing.assert_allclose(people.vectors, np.stack(means), rtol=1e-5, atol=1e-6)


def test_only_distractors_and_only_junk() -> None:
    gallery = images([0, 0])
    people = centroid_embeddings(gallery)
    np.testing.assert_array_equal(people.vectors, gallery.vectors)
    assert people.paths.tolist() == gallery.paths.tolist()
    with pytest.raises(ReidError, match="got junk only"):
        centroid_embeddings(images([-1, -1]))
