"""IBN-a: instance and batch normalisation side by side (Pan et al., ECCV 2018)."""

import torch
from torch import Tensor, nn


class InstanceBatchNorm(nn.Module):
    """Instance-normalise the first half of the channels and batch-normalise the rest.

    Args:
        channels: of the input; the first ``channels // 2`` are instance-normalised.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._half = channels // 2
        # The names of the original networks, so that their ImageNet weights load.
        self.IN = nn.InstanceNorm2d(self._half, affine=True)
        self.BN = nn.BatchNorm2d(channels - self._half)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        instance, batch = features[:, : self._half], features[:, self._half :]
        return torch.cat([self.IN(instance.contiguous()), self.BN(batch.contiguous())], dim=1)
