"""Heads: from the backbone's feature map to the embeddings of each image.

A head is a class and a line in :data:`HEADS`, a pooling a class and a line in :data:`POOLINGS`.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from utils.errors import ReidError

PoolingFactory = Callable[[], nn.Module]
"""Makes a module (N, C, H, W) -> (N, C) float32; a head of several parts calls it for each."""


class Features(NamedTuple):
    """The two embeddings of each image, float32.

    Attributes:
        raw: (N, D) before normalization; metric losses see this.
        bn: (N, D) after batch normalization; the classifier and retrieval (cosine) see this.
    """

    raw: Tensor
    bn: Tensor


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

    p = 1 is the mean, and a large p comes close to the maximum. GeM is meant for maps that end in a ReLU: a value
    below ``eps`` counts as ``eps``, because powers of negative numbers are undefined.

    Args:
        p: initial power.
        eps: lower bound on the values of the map.

    Attributes:
        p: (1,) learned power, shared by all channels.

    Raises:
        ReidError: if ``p`` is not positive.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        if p <= 0:
            raise ReidError(f"p must be above 0, got {p}; 3 is usual")
        self.p = nn.Parameter(torch.tensor([p]))
        self._eps = eps

    def forward(self, feature_map: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C) float32."""
        powers = feature_map.float().clamp_min(self._eps).pow(self.p)
        return powers.mean(dim=(2, 3)).pow(1.0 / self.p)


class BNNeck(nn.Module):
    """Pooling and a batch normalization whose bias is frozen at zero (Luo et al., CVPRW 2019).

    The frozen bias keeps the normalized features centered at the origin, which the classifier without bias and the
    cosine assume. A linear layer between the two may change the dimension, as in the heads
    of FastReID (He et al., arXiv 2006.02631). It has no bias, because the normalization and the distances before
    it cancel one.

    Args:
        channels: C, of the feature map.
        pooling: makes the pooling.
        dim: D, of the embeddings; 0 = no linear layer, and D = C.

    Attributes:
        dim: D.
    """

    def __init__(self, channels: int, pooling: PoolingFactory = AveragePooling, dim: int = 0) -> None:
        super().__init__()
        self.dim = dim or channels
        self.pool = pooling()
        self.linear: nn.Module = nn.Identity()
        if dim:
            self.linear = nn.Linear(channels, dim, bias=False)
            nn.init.kaiming_normal_(self.linear.weight, nonlinearity="linear")
        self.bn = nn.BatchNorm1d(self.dim)
        self.bn.bias.requires_grad_(False)

    def forward(self, feature_map: Tensor) -> Features:
        """(N, C, H, W) -> both embeddings, (N, D); computed in float32 also under autocast."""
        with torch.autocast(device_type=feature_map.device.type, enabled=False):
            raw = self.linear(self.pool(feature_map))
            return Features(raw, self.bn(raw))


class ProjectionHead(nn.Module):
    """The head of OSNet: pool, project, normalize, rectify (the ``fc`` block of Zhou et al., ICCV 2019).

    Retrieval uses the output after the ReLU, which published OSNet weights were trained for. Metric losses use the
    vector before the normalization, as with the BNNeck.

    Args:
        channels: of the feature map.
        pooling: makes the pooling.
        dim: D, of both vectors; 0 = 512, the D of all published OSNets.

    Attributes:
        dim: D.
    """

    def __init__(self, channels: int, pooling: PoolingFactory = AveragePooling, dim: int = 0) -> None:
        super().__init__()
        self.dim = dim or 512
        self.pool = pooling()
        self.linear = nn.Linear(channels, self.dim)
        self.bn = nn.BatchNorm1d(self.dim)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, feature_map: Tensor) -> Features:
        """(N, C, H, W) -> ``raw`` before normalization and ReLU, ``bn`` after both; (N, D) float32."""
        with torch.autocast(device_type=feature_map.device.type, enabled=False):
            raw = self.linear(self.pool(feature_map))
            return Features(raw, self.bn(raw).relu())


POOLINGS: dict[str, PoolingFactory] = {"avg": AveragePooling, "max": MaxPooling, "gem": GeneralizedMeanPooling}
"""MODEL.POOLING -> the factory of the pooling."""

HEADS: dict[str, Callable[[int, PoolingFactory, int], nn.Module]] = {"bnneck": BNNeck, "projection": ProjectionHead}
"""MODEL.HEAD -> ``head(channels, pooling, dim)``.

It makes a module from the output of the backbone to :class:`Features`. Its attribute ``dim`` is their number of
components, and ``bn`` its batch normalization. The argument ``dim`` is 0 where the head decides that number.
"""
