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
    cosine, see them from the origin. A linear layer between the two may change the dimension, as in the heads
    of FastReID (He et al., arXiv 2006.02631). It has no bias: the normalisation takes any away, and distances
    before it see none.

    Args:
        channels: of the feature map, C.
        pooling: (N, C, H, W) -> (N, C) float32; None for the mean.
        dim: of the embeddings, D; 0 for no linear layer and D = C.

    Attributes:
        dim: D.
    """

    def __init__(self, channels: int, pooling: nn.Module | None = None, dim: int = 0) -> None:
        super().__init__()
        self.dim = dim or channels
        self.pool = pooling or AveragePooling()
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
