"""Learning-rate schedules as pure functions of the progress in epochs: nothing to save or restore."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

Schedule = Callable[[float], float]
"""Progress in epochs (2.5 = half way through the third) -> factor on the base learning rate."""


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
