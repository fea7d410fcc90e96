"""From a feature map to the two vectors of the BNNeck."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from modelling.pooling import AveragePooling


class Features(NamedTuple):
    """The two embeddings of each image, float32.

    Attributes:
        raw: (N, D) after pooling; metric losses see this.
        bn: (N, D) after batch normalisation; the classifier and retrieval (cosine) see this.
    """

    raw: Tensor
    bn: Tensor


class BNNeck(nn.Module):
    """Pooling and a batch normalisation whose bias is frozen at zero (Luo et al. 2019).

    The frozen bias keeps the normalised features centred, so that the classifier without bias, and the
    cosine, see them from the origin.

    Args:
        dim: channels of the feature map, D.
        pooling: (N, D, H, W) -> (N, D) float32; None for the mean.
    """

    def __init__(self, dim: int, pooling: nn.Module | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.pool = pooling or AveragePooling()
        self.bn = nn.BatchNorm1d(dim)
        self.bn.bias.requires_grad_(False)

    def forward(self, feature_map: Tensor) -> Features:
        """(N, D, H, W) -> both embeddings; computed in float32 also under autocast."""
        with torch.autocast(device_type=feature_map.device.type, enabled=False):
            raw = self.pool(feature_map)
            return Features(raw, self.bn(raw))
