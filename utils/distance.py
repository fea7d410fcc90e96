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
# A vector shorter than this has no direction: its cosine similarity with any other is 0.
_SMALLEST_NORM = 1e-12


def check_metric(metric: str) -> None:
    """Refuse an unknown metric.

    Raises:
        ReidError: if ``metric`` is not one of :data:`METRICS`.
    """
    if metric not in METRICS:
        raise ReidError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")


def distance_matrix(left: Tensor, right: Tensor, metric: Metric = "euclidean") -> Tensor:
    """Distances between each row of ``left`` and each row of ``right``.

    Computed in float32 at least, also under autocast: a bf16 product of two nearly equal vectors has no
    correct digit left after the subtraction. The gradient is finite everywhere, zero at equal vectors.

    Args:
        left: (N, D) floating point.
        right: (M, D) floating point.
        metric: ``euclidean``, ``sqeuclidean`` (its square) or ``cosine`` (1 - cosine similarity).

    Returns:
        (N, M) distances, never negative for the two euclidean metrics.

    Raises:
        ReidError: if ``metric`` is unknown.
    """
    check_metric(metric)
    with torch.autocast(device_type=left.device.type, enabled=False):
        left, right = at_least_float32(left), at_least_float32(right)
        if metric == "cosine":
            return 1.0 - (
                F.normalize(left, dim=1, eps=_SMALLEST_NORM) @ F.normalize(right, dim=1, eps=_SMALLEST_NORM).T
            )
        squares = left.square().sum(1)[:, None] + right.square().sum(1)[None, :]
        return _from_squared(torch.addmm(squares, left, right.T, alpha=-2.0), metric)


def distances_from_products(
    products: Tensor, left_squares: Tensor, right_squares: Tensor, metric: Metric = "euclidean"
) -> Tensor:
    """The distances of :func:`distance_matrix`, from inner products that are already known.

    For vectors that are linear combinations of others (means, say) the products follow from those of the
    others, and the vectors themselves need not be formed.

    Args:
        products: (N, M) inner products of left and right vectors, float32 or float64.
        left_squares: (N,) inner product of each left vector with itself.
        right_squares: (M,) the same of the right vectors.
        metric: as in :func:`distance_matrix`.

    Returns:
        (N, M) distances.

    Raises:
        ReidError: if ``metric`` is unknown.
    """
    check_metric(metric)
    if metric == "cosine":
        left_scales = left_squares.clamp_min(_SMALLEST_NORM**2).rsqrt()
        right_scales = right_squares.clamp_min(_SMALLEST_NORM**2).rsqrt()
        return 1.0 - products * left_scales[:, None] * right_scales[None, :]
    return _from_squared(left_squares[:, None] + right_squares[None, :] - 2.0 * products, metric)


def _from_squared(squared: Tensor, metric: Metric) -> Tensor:
    if metric == "sqeuclidean":
        return squared.clamp_min(0.0)
    return squared.clamp_min(_SMALLEST_SQUARE).sqrt()


def at_least_float32(vectors: Tensor) -> Tensor:
    """The vectors as float32, or as they are where they are float64."""
    return vectors if vectors.dtype == torch.float64 else vectors.float()
