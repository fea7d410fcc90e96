"""Optimizer, learning-rate schedule and gradient clipping of a run.

A schedule is a pure function of the progress, so a checkpoint stores nothing of it.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer

from modelling.network import ReidNetwork
from modelling.parameter_groups import GroupRules, parameter_groups
from utils.errors import lookup

Schedule = Callable[[float], float]
"""Progress in epochs (2.5 = half way through the third) -> factor on the base learning rate."""


class Span(NamedTuple):
    """A length of time at the beginning of a run: epochs, or iterations where they are above 0."""

    epochs: float = 0.0
    iterations: int = 0

    def length(self, batches: int) -> float:
        """In epochs of so many batches."""
        return self.iterations / batches if self.iterations else self.epochs


class Warmup(NamedTuple):
    """A linear rise of the rate, step by step.

    Attributes:
        span: how long.
        start: factor at the first step.
    """

    span: Span = Span()
    start: float = 1.0

    def factor(self, progress: float, batches: int) -> float:
        """At a progress in epochs of so many batches."""
        length = self.span.length(batches)
        return self.start + (1.0 - self.start) * progress / length if progress < length else 1.0


@dataclass(frozen=True)
class OptimizerConfig:
    """How a run changes its weights.

    Attributes:
        name: one of :data:`OPTIMIZERS`.
        base_lr: learning rate where the schedule's factor is 1.
        weight_decay: of the network and the classifier.
        momentum: of SGD.
        schedule: factor on ``base_lr`` by progress in epochs.
        clip: largest norm of the gradient; 0 = no clipping.
        batches: whose mean gradient makes one step.
        rules: how the parameters differ.
        warmup: the rise of the rate before the schedule.
        freeze: during which the trunk of the network stays as it is.
        average_decay: of the moving average of the network; 0 = there is none.

    Raises:
        ReidError: for an unknown name.
    """

    name: str
    base_lr: float
    weight_decay: float
    momentum: float
    schedule: Schedule
    clip: float = 0.0
    batches: int = 1
    rules: GroupRules = field(default_factory=GroupRules)
    warmup: Warmup = field(default_factory=Warmup)
    freeze: Span = field(default_factory=Span)
    average_decay: float = 0.0

    def __post_init__(self) -> None:
        lookup(OPTIMIZERS, self.name, "SOLVER.OPTIMIZER_NAME")

    def build(self, network: ReidNetwork, others: Iterable[nn.Parameter]) -> Optimizer:
        """The optimizer of the parameters that need a gradient: of the network, and others such as a classifier's."""
        return OPTIMIZERS[self.name](parameter_groups(network, others, self.weight_decay, self.rules), self)

    def rate(self, progress: float, batches: int) -> float:
        """The learning rate of a group without a factor.

        Args:
            progress: in epochs.
            batches: in an epoch.
        """
        return self.base_lr * self.warmup.factor(progress, batches) * self.schedule(progress)


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], OptimizerConfig], Optimizer]] = {
    "Adam": lambda parameters, c: Adam(parameters, c.base_lr, weight_decay=c.weight_decay, fused=True),
    "AdamW": lambda parameters, c: AdamW(parameters, c.base_lr, weight_decay=c.weight_decay, fused=True),
    "SGD": lambda parameters, c: SGD(parameters, c.base_lr, c.momentum, weight_decay=c.weight_decay, fused=True),
    "Adagrad": lambda parameters, c: Adagrad(parameters, c.base_lr, weight_decay=c.weight_decay),
}
"""SOLVER.OPTIMIZER_NAME -> the factory of the optimizer, from groups of parameters as torch's optimizers take them.

A fused one passes once over its memory, and on CUDA the host need not wait to learn whether a scaled gradient
overflowed; Adagrad has none on CUDA.
"""


def match_parameters(optimizer: Optimizer) -> None:
    """Bring a restored state into the layout of the parameters: fused kernels read all of them as they lie in memory.

    The checkpoint may also come from an optimizer that was not fused, which keeps its counters on the CPU.
    """
    for group in optimizer.param_groups:
        if "fused" in optimizer.defaults:  # one of a user's own may not have the choice
            group["fused"] = optimizer.defaults["fused"]
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            for name, value in state.items():
                if name == "step":
                    state[name] = value.to(parameter.device if group.get("fused") else "cpu")
                elif isinstance(value, Tensor):
                    state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def multistep(steps: Sequence[int], gamma: float) -> Schedule:
    """Multiply the rate by ``gamma`` at the beginning of each epoch in ``steps`` (counted from 0)."""
    ordered = sorted(steps)
    return lambda epoch: gamma ** bisect_right(ordered, epoch)


def cosine(start: float, end: float, floor: float) -> Schedule:
    """Fall along half a cosine from 1 at epoch ``start`` to ``floor`` at epoch ``end``."""

    def factor(epoch: float) -> float:
        progress = min(max((epoch - start) / max(end - start, 1e-12), 0.0), 1.0)
        return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))

    return factor
