"""Poolings: from a feature map to one vector an image."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from utils.errors import ReidError

PoolingFactory = Callable[[], nn.Module]
"""Makes a module (N, C, H, W) -> (N, C) float32; a head of several parts calls it for each."""


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
    """GeM, the p-th root of the mean p-th power (Radenović et al., TPAMI 2018).

    p = 1 is the mean, and a large p comes close to the maximum. GeM is meant for maps that end in a ReLU: a value
    below ``eps`` counts as ``eps``, because powers of negative numbers are undefined.

    Args:
        p: power at the beginning.
        eps: lower bound on the values of the map.
        learned: whether training changes the power; if not, it is in no checkpoint.

    Attributes:
        p: (1,) power, shared by all channels.

    Raises:
        ReidError: if ``p`` is not positive.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6, *, learned: bool = True) -> None:
        super().__init__()
        if p <= 0:
            raise ReidError(f"p must be above 0, got {p}; 3 is usual")
        self.p: Tensor
        if learned:
            self.p = nn.Parameter(torch.tensor([p]))
        else:
            self.register_buffer("p", torch.tensor([p]), persistent=False)
        self._eps = eps

    def forward(self, feature_map: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C) float32."""
        powers = feature_map.float().clamp_min(self._eps).pow(self.p)
        return powers.mean(dim=(2, 3)).pow(1.0 / self.p)


POOLINGS: dict[str, PoolingFactory] = {
    "avg": AveragePooling,
    "max": MaxPooling,
    "gem": GeneralizedMeanPooling,
    "gem_fixed": partial(GeneralizedMeanPooling, learned=False),
}
"""MODEL.POOLING -> the factory of the pooling."""
