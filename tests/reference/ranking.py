"""Rankings as a reader would write them: sort the gallery for each query, then walk down the list."""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from evaluation.ranking import CMC_RANKS
from utils.distance import distance_matrix

Array = np.ndarray | Tensor


class Case(NamedTuple):
    """Query and gallery of an evaluation, in the order of its arguments."""

    query: Array
    gallery: Array
    query_ids: Array
    gallery_ids: Array
    query_cameras: Array
    gallery_cameras: Array


def realistic_case(seed: int) -> Case:
    """120 queries and 600 gallery items of 60 people and some distractors, float32: neither trivial nor hopeless."""
    rng = np.random.default_rng(seed)
    query_ids, gallery_ids = rng.integers(1, 61, 120), rng.integers(0, 61, 600)
    centers = rng.standard_normal((61, 128))

    def embed(ids: np.ndarray) -> np.ndarray:
        return (centers[ids] * 0.5 + rng.standard_normal((len(ids), 128))).astype(np.float32)

    cameras = rng.integers(0, 6, 720)
    return Case(embed(query_ids), embed(gallery_ids), query_ids, gallery_ids, cameras[:120], cameras[120:])


def float64_distances(case: Case, metric: str) -> np.ndarray:
    """(Q, G) distances by their definition."""
    query, gallery = case.query.astype(np.float64), case.gallery.astype(np.float64)
    if metric == "cosine":
        query = query / np.linalg.norm(query, axis=1, keepdims=True)
        gallery = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
        return 1 - query @ gallery.T
    squared = ((query[:, None] - gallery[None]) ** 2).sum(-1)
    return squared if metric == "sqeuclidean" else np.sqrt(squared)


def plain_ranking(distances: np.ndarray, case: Case, camera_rule: bool = True) -> dict[str, object]:
    """The protocol spelled out: sort the items that count, matches last among equals, and walk down the list."""
    precisions, penalties, firsts, counts = [], [], [], []
    for row, person, camera in zip(distances, case.query_ids, case.query_cameras, strict=True):
        items = []
        for distance, other, other_camera in zip(row, case.gallery_ids, case.gallery_cameras, strict=True):
            if camera_rule and other == person and other_camera == camera:
                continue
            items.append((float(distance), bool(other == person)))
        num_matches, precision, first = 0, [], 0
        for rank, (_, is_match) in enumerate(sorted(items), start=1):
            if is_match:
                num_matches += 1
                first = first or rank
                precision.append(num_matches / rank)
        firsts.append(first)
        precisions.append(sum(precision) / num_matches if num_matches else float("nan"))
        penalties.append(precision[-1] if num_matches else float("nan"))
        counts.append(num_matches)
    valid = [first for first in firsts if first]
    return {
        "mAP": float(np.nanmean(precisions)) if valid else None,
        "mINP": float(np.nanmean(penalties)) if valid else None,
        "cmc": {k: sum(first <= k for first in valid) / len(valid) for k in CMC_RANKS} if valid else None,
        "average_precision": precisions,
        "first_match_rank": firsts,
        "inverse_negative_penalty": penalties,
        "num_matches": counts,
        "num_valid_queries": len(valid),
    }


def sort_and_loop(case: Case) -> float:
    """Full argsort, then a Python loop over queries: what most projects carry. Returns mAP."""
    order = distance_matrix(case.query, case.gallery, "cosine").numpy().argsort(axis=1)
    ids, cameras = case.gallery_ids.numpy(), case.gallery_cameras.numpy()
    precisions = []
    for items, person, camera in zip(order, case.query_ids.numpy(), case.query_cameras.numpy(), strict=True):
        items = items[~((ids[items] == person) & (cameras[items] == camera))]
        match = ids[items] == person
        if match.any():
            precisions.append((match.cumsum() / np.arange(1, len(match) + 1))[match].mean())
    return float(np.mean(precisions))


def sort_vectorized(case: Case) -> float:
    """Full argsort, then cumulative sums over the whole matrix. Returns mAP."""
    order = distance_matrix(case.query, case.gallery, "cosine").numpy().argsort(axis=1)
    match = case.gallery_ids.numpy()[order] == case.query_ids.numpy()[:, None]
    counts_here = ~(match & (case.gallery_cameras.numpy()[order] == case.query_cameras.numpy()[:, None]))
    match &= counts_here
    precision = match.cumsum(1) / np.maximum(counts_here.cumsum(1), 1)
    counts = match.sum(1)
    return float(((precision * match).sum(1)[counts > 0] / counts[counts > 0]).mean())
