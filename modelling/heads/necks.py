"""Heads of one part."""

import torch
from torch import Tensor, nn

from modelling.heads.head import Features, Head
from modelling.heads.pooling import AveragePooling, PoolingFactory


class BNNeck(Head):
    """Pooling and a batch normalization whose bias is frozen at zero (Luo et al., CVPRW 2019).

    The frozen bias keeps the normalized features centered at the origin, which the classifier without bias and the
    cosine assume. A linear layer between the two may change the dimension, as in the heads
    of FastReID (He et al., arXiv 2006.02631). It has no bias, because the normalization and the distances before
    it cancel one.

    Args:
        channels: C, of the feature map.
        pooling: makes the pooling.
        dim: D, of the embeddings; 0 = no linear layer, and D = C.
    """

    def __init__(self, channels: int, pooling: PoolingFactory = AveragePooling, dim: int = 0) -> None:
        super().__init__(dim or channels)
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


class ReductionNeck(BNNeck):
    """A BNNeck whose linear layer is followed by a normalization and a leaky ReLU of its own (fast-reid v0.1).

    Args:
        channels: of the feature map.
        pooling: makes the pooling.
        dim: D, of the embeddings; 0 = 512.
    """

    def __init__(self, channels: int, pooling: PoolingFactory = AveragePooling, dim: int = 0) -> None:
        super().__init__(channels, pooling, dim or 512)
        self.linear = nn.Sequential(self.linear, nn.BatchNorm1d(self.dim), nn.LeakyReLU(0.1))


class ProjectionHead(Head):
    """The head of OSNet: pool, project, normalize, rectify (the ``fc`` block of Zhou et al., ICCV 2019).

    Retrieval uses the output after the ReLU, which published OSNet weights were trained for. Metric losses use the
    vector before the normalization, as with the BNNeck.

    Args:
        channels: of the feature map.
        pooling: makes the pooling.
        dim: D, of both vectors; 0 = 512, the D of all published OSNets.
    """

    def __init__(self, channels: int, pooling: PoolingFactory = AveragePooling, dim: int = 0) -> None:
        super().__init__(dim or 512)
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
