"""The head of OSNet: a linear layer, a batch normalisation and a ReLU instead of the BNNeck."""

import torch
from torch import Tensor, nn

from modelling.heads import Features
from modelling.pooling import AveragePooling


class ProjectionHead(nn.Module):
    """Pool, project, normalise, rectify (the ``fc`` block of Zhou et al., ICCV 2019).

    The retrieval vector is what published OSNet weights were trained to rank by: the output after the ReLU.
    The vector before the normalisation is offered to metric losses, as the BNNeck offers its own.

    Args:
        channels: of the feature map.
        dim: of both vectors, D.
        pooling: (N, C, H, W) -> (N, C); None for the mean.
    """

    def __init__(self, channels: int, dim: int = 512, pooling: nn.Module | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.pool = pooling or AveragePooling()
        self.linear = nn.Linear(channels, dim)
        self.bn = nn.BatchNorm1d(dim)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, feature_map: Tensor) -> Features:
        """(N, C, H, W) -> ``raw`` before normalisation and ReLU, ``bn`` after both; (N, D) float32."""
        with torch.autocast(device_type=feature_map.device.type, enabled=False):
            raw = self.linear(self.pool(feature_map))
            return Features(raw, self.bn(raw).relu())
