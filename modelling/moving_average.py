"""The exponential moving average of a network over the steps of a training."""

import copy

import torch
from torch import Tensor, nn

_EARLY = 10.0  # steps by which the first averages lag behind


class MovingAverage(nn.Module):
    """A copy of a network that follows it slowly, and is often better (Polyak and Juditsky, 1992).

    Statistics of normalizations are averaged too, whole numbers are copied. The host never waits for the device.

    Args:
        network: where the average begins.
        decay: share of the average that stays in a step, 0 < decay < 1. The first steps keep less,
            (1 + t) / (10 + t) after t steps, because the average begins at untrained weights.

    Attributes:
        network: the average.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, steps: int) -> None:
        """Take in the network after so many steps."""
        share = 1.0 - min(self._decay, (1.0 + steps) / (_EARLY + steps))
        own, theirs = _tensors(self.network), _tensors(network)
        pairs = [(mine, other) for mine, other in zip(own, theirs, strict=True) if mine.is_floating_point()]
        torch._foreach_lerp_([mine for mine, _ in pairs], [other for _, other in pairs], share)
        for mine, other in zip(own, theirs, strict=True):
            if not mine.is_floating_point():
                mine.copy_(other)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
