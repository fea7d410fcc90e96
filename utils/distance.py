"""Distances between two sets of vectors, as matrices."""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the field's own name for it)

from utils.errors import ReidError

Metric = Literal["euclidean", "sqeuclidean", "cosine"]
METRICS: tuple[str, ...] = get_args(Metric)

# Below this squared distance two vectors count as equal: sqrt has an infinite slope at zero, and one
# infinite gradient turns the whole network into NaN.
_SMALLEST_SQUARE = 1e-12


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
        left, right = _at_least_float32(left), _at_least_float32(right)
        if metric == "cosine":
            return 1.0 - F.normalize(left, dim=1) @ F.normalize(right, dim=1).T
        squares = left.square().sum(1)[:, None] + right.square().sum(1)[None, :]
        squared = torch.addmm(squares, left, right.T, alpha=-2.0)
        if metric == "sqeuclidean":
            return squared.clamp_min(0.0)
        return squared.clamp_min(_SMALLEST_SQUARE).sqrt()


def _at_least_float32(vectors: Tensor) -> Tensor:
    return vectors if vectors.dtype == torch.float64 else vectors.float()
