"""The evaluation a reader would write: sort the whole gallery for each query, then walk down the lists."""

import numpy as np
from torch import Tensor

from utils.distance import distance_matrix


def sort_and_loop(
    query: Tensor,
    gallery: Tensor,
    query_ids: Tensor,
    gallery_ids: Tensor,
    query_cameras: Tensor,
    gallery_cameras: Tensor,
) -> float:
    """Full argsort, then a Python loop over queries: what most projects carry. Returns mAP."""
    order = distance_matrix(query, gallery, "cosine").numpy().argsort(axis=1)
    ids, cameras = gallery_ids.numpy(), gallery_cameras.numpy()
    precisions = []
    for items, person, camera in zip(order, query_ids.numpy(), query_cameras.numpy(), strict=True):
        kept = items[~((ids[items] == person) & (cameras[items] == camera))]
        match = ids[kept] == person
        if match.any():
            precisions.append((match.cumsum() / np.arange(1, len(match) + 1))[match].mean())
    return float(np.mean(precisions))


def sort_vectorised(
    query: Tensor,
    gallery: Tensor,
    query_ids: Tensor,
    gallery_ids: Tensor,
    query_cameras: Tensor,
    gallery_cameras: Tensor,
) -> float:
    """Full argsort, then cumulative sums over the whole matrix. Returns mAP."""
    order = distance_matrix(query, gallery, "cosine").numpy().argsort(axis=1)
    match = gallery_ids.numpy()[order] == query_ids.numpy()[:, None]
    kept = ~(match & (gallery_cameras.numpy()[order] == query_cameras.numpy()[:, None]))
    match &= kept
    precision = match.cumsum(1) / np.maximum(kept.cumsum(1), 1)
    counts = match.sum(1)
    return float(((precision * match).sum(1)[counts > 0] / counts[counts > 0]).mean())
