"""From a feature map to one vector: average, maximum, generalised mean."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from utils.errors import ReidError, did_you_mean


class AveragePooling(nn.Module):
    """The mean over all positions."""

    def forward(self, feature_map: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C) float32."""
        return feature_map.mean(dim=(2, 3), dtype=torch.float32)


class MaxPooling(nn.Module):
    """The largest value over all positions."""

    def forward(self, feature_map: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C) float32."""
        return feature_map.float().amax(dim=(2, 3))


class GeneralizedMeanPooling(nn.Module):
    """GeM, the p-th root of the mean p-th power, with learned p (Radenović et al., TPAMI 2018).

    p = 1 is the mean and a large p comes near the maximum. It is meant for maps that end in a ReLU: a value
    below ``eps`` counts as ``eps``, because powers of negative numbers are undefined.

    Args:
        p: to begin with.
        eps: smallest value of a position.

    Attributes:
        p: (1,) learned power, shared by all channels.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        if p <= 0:
            raise ReidError(f"p must be above 0, got {p}; 3 is the usual beginning")
        self.p = nn.Parameter(torch.tensor([p]))
        self._eps = eps

    def forward(self, feature_map: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C) float32."""
        powers = feature_map.float().clamp_min(self._eps).pow(self.p)
        return powers.mean(dim=(2, 3)).pow(1.0 / self.p)


POOLINGS: dict[str, Callable[[], nn.Module]] = {
    "avg": AveragePooling,
    "max": MaxPooling,
    "gem": GeneralizedMeanPooling,
}


def build_pooling(name: str) -> nn.Module:
    """A pooling by name: ``avg``, ``max`` or ``gem``.

    Raises:
        ReidError: for an unknown name.
    """
    if name not in POOLINGS:
        raise ReidError(f"pooling must be one of {', '.join(POOLINGS)}, got {name!r}{did_you_mean(name, POOLINGS)}")
    return POOLINGS[name]()
