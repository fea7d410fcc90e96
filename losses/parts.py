"""One loss for each part of an embedding."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from losses.base import LossWithStatistics


class Part(NamedTuple):
    """Neighboring components of an embedding, and the weight of their loss.

    Attributes:
        start: the first component.
        stop: the one behind the last.
        weight: of the loss.
    """

    start: int
    stop: int
    weight: float


def cut(widths: Sequence[int], weights: Sequence[float]) -> tuple[Part, ...]:
    """Parts one after another, of so many components each."""
    ends = [sum(widths[:count]) for count in range(len(widths) + 1)]
    return tuple(Part(*ends, weight) for ends, weight in zip(pairwise(ends), weights, strict=True))


class PartLoss(nn.Module):
    """The weighted sum of losses of the parts; a statistic is the mean over the parts, weighted alike.

    Args:
        loss: makes the loss of a part from its number of components.
        parts: of the embedding.

    Attributes:
        losses: one for each part.
    """

    def __init__(self, loss: Callable[[int], nn.Module], parts: Sequence[Part]) -> None:
        super().__init__()
        self.losses = nn.ModuleList(loss(part.stop - part.start) for part in parts)
        self._parts = tuple(parts)

    def forward(self, *batch: Tensor) -> Tensor:
        """The loss of embeddings, (N, D) for each view, and ids (N,), 0-d."""
        return torch.stack(
            [part.weight * loss(*_of_part(batch, part)) for part, loss in zip(self._parts, self.losses, strict=True)]
        ).sum()

    def with_statistics(self, *batch: Tensor) -> LossWithStatistics:
        """The loss, and the statistics of those losses that have any."""
        total = sum(part.weight for part in self._parts)
        values: list[Tensor] = []
        statistics: dict[str, Tensor] = {}
        for part, loss in zip(self._parts, self.losses, strict=True):
            of_part = _of_part(batch, part)
            if not hasattr(loss, "with_statistics"):
                values.append(part.weight * loss(*of_part))
                continue
            value, figures = loss.with_statistics(*of_part)  # type: ignore[operator]
            values.append(part.weight * value)
            for name, figure in figures.items():
                statistics[name] = statistics.get(name, 0.0) + part.weight / total * figure
        return LossWithStatistics(torch.stack(values).sum(), statistics)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"weights={tuple(part.weight for part in self._parts)}"


def _of_part(batch: Sequence[Tensor], part: Part) -> list[Tensor]:
    *views, ids = batch
    return [*(view[:, part.start : part.stop] for view in views), ids]
