"""Training objectives: weighted, named sums of losses over named features."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from losses.center import CenterLoss
from utils.errors import ReidError


@dataclass(frozen=True)
class Term:
    """One summand of an objective.

    Attributes:
        name: its name in logs and in the state dict, a Python identifier: ``identity``, ``triplet``.
        loss: called with the features named in ``inputs``, then ``ids`` and ``valid``. If it has a method
            ``with_statistics``, that is called instead, and its statistics are reported.
        weight: factor in the sum, > 0.
        inputs: names of the features it takes: ``raw`` (before BNNeck), ``bn`` (after), ``raw_low`` and
            ``bn_low`` (the same for the low-resolution view).

    Raises:
        ReidError: if the name, the weight or the inputs are none of this.
    """

    name: str
    loss: nn.Module
    weight: float
    inputs: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ReidError(
                f"name of a term must be a Python identifier, got {self.name!r}; use letters, digits and _"
            )
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ReidError(
                f"weight of term {self.name!r} must be a finite number > 0, got {self.weight!r}; "
                "leave the term out if it shall not count"
            )
        if not isinstance(self.inputs, tuple) or not self.inputs:
            raise ReidError(
                f"inputs of term {self.name!r} must be a tuple of at least one feature name, "
                f"got {self.inputs!r}; write ('raw',) for a single one"
            )


class ObjectiveReport(NamedTuple):
    """What an objective says about one batch.

    Attributes:
        total: 0-d tensor with a graph, the weighted sum to be differentiated.
        terms: name -> unweighted loss, detached 0-d tensor.
        statistics: ``name/statistic`` -> detached 0-d tensor.
    """

    total: Tensor
    terms: dict[str, Tensor]
    statistics: dict[str, Tensor]


class Objective(nn.Module):
    """Weighted sum of named losses.

    The centres of a :class:`~losses.center.CenterLoss` have an optimiser of their own, and the weight of the
    term must not slow them down: the objective sets that loss's ``center_gradient_scale`` to 1 / weight, so a
    training loop calls ``step`` on both optimisers and does nothing else.

    Args:
        terms: the summands; their modules become ``terms.<name>`` in the state dict.

    Raises:
        ReidError: if there is no term, or if two have one name.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        super().__init__()
        names = [term.name for term in terms]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated or not names:
            raise ReidError(
                f"terms must be at least one, each with a name of its own, got {names}; "
                + (f"rename one of each: {', '.join(repeated)}" if repeated else "add a term")
            )
        self.terms = nn.ModuleDict({term.name: term.loss for term in terms})
        self._weights = {term.name: float(term.weight) for term in terms}
        self._inputs = {term.name: tuple(term.inputs) for term in terms}
        for term in terms:
            if isinstance(term.loss, CenterLoss):
                term.loss.center_gradient_scale = 1.0 / term.weight

    def forward(self, features: Mapping[str, Tensor], ids: Tensor, valid: Tensor | None = None) -> ObjectiveReport:
        """Value of the objective on a batch.

        Args:
            features: name -> (N, D) floating point.
            ids: (N,) integer identities, numbered from 0.
            valid: (N,) bool, False for padding, which enters no term.

        Raises:
            ReidError: if a term needs a feature that is not there.
        """
        values: dict[str, Tensor] = {}
        statistics: dict[str, Tensor] = {}
        for name, loss in self.terms.items():
            inputs = self._select(name, features)
            with_statistics = getattr(loss, "with_statistics", None)
            if with_statistics is not None:
                values[name], figures = with_statistics(*inputs, ids, valid)
                statistics.update({f"{name}/{key}": figure for key, figure in figures.items()})
            else:
                values[name] = loss(*inputs, ids, valid)
        total = torch.stack([self._weights[name] * value for name, value in values.items()]).sum()
        return ObjectiveReport(total, {name: value.detach() for name, value in values.items()}, statistics)

    @property
    def inputs(self) -> frozenset[str]:
        """Names of the features that any term takes."""
        return frozenset(name for inputs in self._inputs.values() for name in inputs)

    def center_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the center losses, for an optimiser of their own."""
        for loss in self.terms.values():
            if isinstance(loss, CenterLoss):
                yield from loss.parameters()

    def network_parameters(self) -> Iterator[nn.Parameter]:
        """All other parameters (the classifier), to be trained with the network."""
        for loss in self.terms.values():
            if not isinstance(loss, CenterLoss):
                yield from loss.parameters()

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return " + ".join(
            f"{weight:g} {name}({', '.join(self._inputs[name])})" for name, weight in self._weights.items()
        )

    def _select(self, name: str, features: Mapping[str, Tensor]) -> list[Tensor]:
        missing = [feature for feature in self._inputs[name] if feature not in features]
        if missing:
            raise ReidError(
                f"features must hold the inputs of term {name!r}: {', '.join(self._inputs[name])}; "
                f"missing {', '.join(missing)}, available {', '.join(sorted(features)) or 'none'}; "
                "correct the inputs of the term, or add the view that makes the feature"
            )
        return [features[feature] for feature in self._inputs[name]]
