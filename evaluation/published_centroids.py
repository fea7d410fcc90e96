"""Centroids as the CTL paper's released procedure builds them, its wrong camera lookup included."""

from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.camera_means import CameraMeans, unique_pairs
from evaluation.inputs import RetrievalInputs
from evaluation.match_ranks import OwnItems

_NO_CAMERA = -1


class PublishedCentroids(NamedTuple):
    """Centroids of the identities that have queries, and what decides which of them a query meets.

    Attributes:
        ids: (N,) int64 identity of each centroid.
        left_out: (N,) int64 camera that a centroid leaves out, -1 for none.
        vectors: (N, D) means.
        query_cameras: (Q,) int64, numbered as in ``left_out``.
        is_read: (Q,) bool, whether an item of the query's person is read as taken by the query's camera.
    """

    ids: Tensor
    left_out: Tensor
    vectors: Tensor
    query_cameras: Tensor
    is_read: Tensor

    def keep(self, rows: slice, positions: Tensor) -> Tensor:
        """The centroids of a query's own person without an item that is read as the query's camera."""
        left_out_is_own = self.left_out[positions] == self.query_cameras[rows, None]
        return left_out_is_own | ~self.is_read[rows, None]


def published_centroids(inputs: RetrievalInputs) -> PublishedCentroids:
    """Build them; steps 1 to 3 of :func:`evaluation.centroids.evaluate_centroids_ctl2021`.

    Args:
        inputs: query and gallery.

    Returns:
        Centroids; none at all where no query's identity is in the gallery.
    """
    cameras = torch.cat([inputs.query_cameras, inputs.gallery_cameras])
    numbers = unique_pairs(torch.zeros_like(cameras), cameras)[2]  # so that -1 can stand for no camera
    query_cameras, read_cameras = numbers[: len(inputs.query)], numbers[: len(inputs.gallery)]
    by_camera = CameraMeans(inputs.gallery, inputs.gallery_ids, read_cameras)
    groups, present = OwnItems(inputs.query_ids, by_camera.ids)(slice(None))
    is_read = (present & (by_camera.cameras[groups] == query_cameras[:, None])).any(1)

    left_out = torch.where(is_read, query_cameras, torch.full_like(query_cameras, _NO_CAMERA))
    ids, left_out, _ = unique_pairs(inputs.query_ids, left_out)
    groups, present = OwnItems(ids, by_camera.ids)(slice(None))
    kept = present & (by_camera.cameras[groups] != left_out[:, None])
    exists = kept.any(1)
    ids, left_out, groups, kept = ids[exists], left_out[exists], groups[exists], kept[exists]

    vectors = by_camera.centroids(groups, kept)
    return PublishedCentroids(ids, left_out, vectors, query_cameras, is_read)
