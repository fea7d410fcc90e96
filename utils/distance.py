"""Distances between two sets of vectors, as matrices."""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.errors import ReidError

Metric = Literal["euclidean", "sqeuclidean", "cosine"]
METRICS: tuple[str, ...] = get_args(Metric)

# Below this squared distance two vectors count as equal: sqrt has an infinite slope at zero, and one
# infinite gradient turns the whole network into NaN.
_SMALLEST_SQUARE = 1e-12
SMALLEST_NORM = 1e-12
"""A vector shorter than this has no direction: its cosine similarity with any other is 0."""


def check_metric(metric: str) -> None:
    """Refuse an unknown metric.

    Raises:
        ReidError: if ``metric`` is not one of :data:`METRICS`.
    """
    if metric not in METRICS:
        raise ReidError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")


def distance_matrix(vectors: Tensor, others: Tensor, metric: Metric = "euclidean") -> Tensor:
    """Distances between each row of ``vectors`` and each row of ``others``.

    Computed in float32 at least, also under autocast: a bf16 product of two nearly equal vectors has no
    correct digit after the subtraction. The gradient is finite everywhere, zero at equal vectors.

    Args:
        vectors: (N, D) floating point.
        others: (M, D) floating point.
        metric: ``euclidean``, ``sqeuclidean`` (its square) or ``cosine`` (1 - cosine similarity).

    Returns:
        (N, M) distances, never negative for the two euclidean metrics.

    Raises:
        ReidError: if ``metric`` is unknown.
    """
    check_metric(metric)
    with torch.autocast(device_type=vectors.device.type, enabled=False):
        vectors, others = at_least_float32(vectors), at_least_float32(others)
        if metric == "cosine":
            return 1.0 - (
                F.normalize(vectors, dim=1, eps=SMALLEST_NORM) @ F.normalize(others, dim=1, eps=SMALLEST_NORM).T
            )
        squares = vectors.square().sum(1)[:, None] + others.square().sum(1)[None, :]
        return _from_squared(torch.addmm(squares, vectors, others.T, alpha=-2.0), metric)


def distances_from_products(
    products: Tensor, squares: Tensor, other_squares: Tensor, metric: Metric = "euclidean"
) -> Tensor:
    """The distances of :func:`distance_matrix`, from known inner products.

    The products of linear combinations of vectors, such as means, follow from the products of these vectors, so the
    combinations themselves are never computed.

    Args:
        products: (N, M) inner products of two sets of vectors, float32 or float64.
        squares: (N,) inner product of each vector of the first set with itself.
        other_squares: (M,) the same of the second set.
        metric: as in :func:`distance_matrix`.

    Returns:
        (N, M) distances.

    Raises:
        ReidError: if ``metric`` is unknown.
    """
    check_metric(metric)
    if metric == "cosine":
        scales = squares.clamp_min(SMALLEST_NORM**2).rsqrt()
        other_scales = other_squares.clamp_min(SMALLEST_NORM**2).rsqrt()
        return 1.0 - products * scales[:, None] * other_scales[None, :]
    return _from_squared(squares[:, None] + other_squares[None, :] - 2.0 * products, metric)


def _from_squared(squared: Tensor, metric: Metric) -> Tensor:
    if metric == "sqeuclidean":
        return squared.clamp_min(0.0)
    return squared.clamp_min(_SMALLEST_SQUARE).sqrt()


def at_least_float32(vectors: Tensor) -> Tensor:
    """The vectors as float32, or as they are where they are float64."""
    return vectors if vectors.dtype == torch.float64 else vectors.float()
