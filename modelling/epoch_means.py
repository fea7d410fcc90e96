"""Means over the steps of an epoch, and figures on the host, with one wait for the device where they are read."""

from collections.abc import Mapping

import torch
from torch import Tensor


class EpochMeans:
    """Weighted means of named values; a step costs two operations, however many values there are."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._sums: Tensor | None = None
        self._weight = 0

    def add(self, values: Mapping[str, Tensor], weight: int) -> None:
        """Add a step.

        Args:
            values: name -> detached 0-d tensor, the same names in each step.
            weight: of the step, its number of images.
        """
        row = torch.stack(list(values.values())).float() * weight
        self._names, self._weight = tuple(values), self._weight + weight
        self._sums = row if self._sums is None else self._sums + row

    def values(self) -> dict[str, Tensor]:
        """Name -> mean, a 0-d float32 tensor on the host; empty without a step."""
        if self._sums is None:
            return {}
        return dict(zip(self._names, (self._sums / self._weight).cpu(), strict=True))


def on_host(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name -> the 0-d value in float32 on the host, copied from the device all at once."""
    return dict(zip(values, torch.stack(list(values.values())).float().cpu(), strict=True))
