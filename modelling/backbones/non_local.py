"""Non-local blocks with one inner channel, as fast-reid has them (after Wang et al., CVPR 2018)."""

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

MARK = "non_local"
"""The name of such a layer begins with it."""


class NonLocal(nn.Module):
    """Adds to each position what all positions have in common, as much as the position itself asks for.

    With theta, phi and g, maps of one channel each, the sum of all pairs is ``theta * mean(phi * g)``. A convolution
    and a batch normalization bring it back to all channels. The normalization begins with a weight of 0, so the block
    begins as the identity.

    Args:
        channels: C, of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g, self.theta, self.phi = (nn.Conv2d(channels, 1, 1) for _ in range(3))
        norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(norm.weight)
        self.W = nn.Sequential(nn.Conv2d(1, channels, 1), norm)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        common = (self.phi(features) * self.g(features)).mean(dim=(2, 3), keepdim=True)
        response: Tensor = self.W(self.theta(features) * common)
        return features + response


def add_non_local(base: Any, counts: dict[str, int]) -> None:  # noqa: ANN401 (any network of stages of blocks)
    """Put a non-local block behind each of the last blocks of some stages.

    The other layers keep their names, so weights of the network without these blocks fill them.

    Args:
        base: has the stages, each an ``nn.Sequential`` of bottlenecks.
        counts: name of a stage -> number of its last blocks.
    """
    for stage, count in counts.items():
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        blocks = list(getattr(base, stage).named_children())
        for position, (name, block) in enumerate(blocks, count - len(blocks)):
            layers[name] = block
            if position >= 0:
                layers[f"{MARK}{position}"] = NonLocal(block.conv3.out_channels)
        setattr(base, stage, nn.Sequential(layers))
