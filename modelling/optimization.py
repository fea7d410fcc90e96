"""Optimizer, learning-rate schedule and gradient clipping of a run.

A schedule is a pure function of the progress, so a checkpoint stores nothing of it.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer

from utils.errors import lookup

Schedule = Callable[[float], float]
"""Progress in epochs (2.5 = half way through the third) -> factor on the base learning rate."""


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

    def __post_init__(self) -> None:
        lookup(OPTIMIZERS, self.name, "SOLVER.OPTIMIZER_NAME")

    def build(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """The optimizer of the parameters that need a gradient."""
        return OPTIMIZERS[self.name]([parameter for parameter in parameters if parameter.requires_grad], self)


OPTIMIZERS: dict[str, Callable[[list[nn.Parameter], OptimizerConfig], Optimizer]] = {
    "Adam": lambda parameters, c: Adam(parameters, c.base_lr, weight_decay=c.weight_decay, fused=True),
    "AdamW": lambda parameters, c: AdamW(parameters, c.base_lr, weight_decay=c.weight_decay, fused=True),
    "SGD": lambda parameters, c: SGD(parameters, c.base_lr, c.momentum, weight_decay=c.weight_decay, fused=True),
    "Adagrad": lambda parameters, c: Adagrad(parameters, c.base_lr, weight_decay=c.weight_decay),
}
"""SOLVER.OPTIMIZER_NAME -> the factory of the optimizer.

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


def with_warmup(schedule: Schedule, epochs: float, start_factor: float) -> Schedule:
    """Precede ``schedule`` by a linear rise, step by step, from ``start_factor`` to 1 over ``epochs``."""

    def factor(epoch: float) -> float:
        if epoch >= epochs:
            return schedule(epoch)
        return (start_factor + (1.0 - start_factor) * epoch / epochs) * schedule(epoch)

    return factor
