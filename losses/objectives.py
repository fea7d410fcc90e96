"""Training objectives: weighted, named sums of losses over the features of each view of a batch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from losses.base import LossWithStatistics
from utils.errors import ReidError


@dataclass(frozen=True)
class Term:
    """One summand of an objective.

    Attributes:
        name: its name in logs and in the state dict, a Python identifier: ``identity``, ``triplet``.
        loss: called with one matrix of features for each view, then ``ids``. If it has a method
            ``with_statistics``, the objective calls that instead and reports its statistics. If it has a method
            ``own_optimizer``, that makes the optimizer of all its parameters.
        weight: factor in the sum, > 0.
        feature: the feature it takes of each view: ``raw`` (before the BNNeck) or ``bn`` (after it).
        views: names of the views it compares: ``main``, and ``low`` for the low-resolution images.

    Raises:
        ReidError: if the name, the weight or the views are not as described.
    """

    name: str
    loss: nn.Module
    weight: float
    feature: str
    views: tuple[str, ...] = ("main",)

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ReidError(
                f"name of a term must be a Python identifier, got {self.name!r}; use letters, digits and _"
            )
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ReidError(
                f"weight of term {self.name!r} must be a finite number > 0, got {self.weight!r}; "
                "leave the term out to switch it off"
            )
        if not isinstance(self.views, tuple) or not self.views:
            raise ReidError(
                f"views of term {self.name!r} must be a tuple of at least one name, got {self.views!r}; "
                "write ('main',) for a single one"
            )


class ObjectiveReport(NamedTuple):
    """Value and figures of an objective on one batch.

    Attributes:
        total: 0-d tensor with a graph, the weighted sum.
        terms: name -> unweighted loss, detached 0-d tensor.
        statistics: ``name/statistic`` -> detached 0-d tensor.
    """

    total: Tensor
    terms: dict[str, Tensor]
    statistics: dict[str, Tensor]


class Objective(nn.Module):
    """Weighted sum of named losses.

    A loss may have its own optimizer, and the weight of the term must not slow that down: the centers of a
    :class:`~losses.center.CenterLoss` of weight 5e-4 learn as if the weight were 1. So the objective multiplies the
    gradient of such parameters by 1 / weight, and a training loop only calls ``step`` on all optimizers.

    Args:
        terms: the summands; their modules become ``terms.<name>`` in the state dict.

    Raises:
        ReidError: if there is no term, or if two terms have the same name.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        super().__init__()
        names = [term.name for term in terms]
        duplicates = sorted({name for name in names if names.count(name) > 1})
        if duplicates or not names:
            raise ReidError(
                f"terms must be at least one, each with a name of its own, got {names}; "
                + (f"rename one of each: {', '.join(duplicates)}" if duplicates else "add a term")
            )
        self.terms = nn.ModuleDict({term.name: term.loss for term in terms})
        self._summands = tuple(terms)

    def forward(self, features: Mapping[str, Mapping[str, Tensor]], ids: Tensor) -> ObjectiveReport:
        """Value of the objective on a batch.

        Args:
            features: view -> feature -> (N, D) floating point.
            ids: (N,) integer identities, numbered from 0.

        Raises:
            ReidError: if a feature that a term needs is missing.
        """
        values: dict[str, Tensor] = {}
        statistics: dict[str, Tensor] = {}
        for term in self._summands:
            values[term.name], figures = _evaluate(term, *_embeddings(term, features), ids)
            statistics |= {f"{term.name}/{key}": figure for key, figure in figures.items()}
        total = torch.stack([term.weight * values[term.name] for term in self._summands]).sum()
        return ObjectiveReport(total, {name: value.detach() for name, value in values.items()}, statistics)

    @property
    def features(self) -> frozenset[str]:
        """Names of the features that the terms take."""
        return frozenset(term.feature for term in self._summands)

    def network_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that the network's optimizer trains too, such as the classifier's."""
        for term in self._summands:
            if not _has_own_optimizer(term):
                yield from term.loss.parameters()

    def own_optimizers(self) -> dict[str, Optimizer]:
        """A new optimizer for each term that has its own, by the term's name."""
        return {term.name: term.loss.own_optimizer() for term in self._summands if _has_own_optimizer(term)}  # type: ignore[operator]

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return " + ".join(
            f"{term.weight:g} {term.name}({', '.join(f'{view}.{term.feature}' for view in term.views)})"
            for term in self._summands
        )


def _has_own_optimizer(term: Term) -> bool:
    return hasattr(term.loss, "own_optimizer")


def _embeddings(term: Term, features: Mapping[str, Mapping[str, Tensor]]) -> list[Tensor]:
    if absent := [view for view in term.views if term.feature not in features.get(view, {})]:
        available = [f"{view}.{feature}" for view, part in features.items() for feature in part]
        raise ReidError(
            f"features must hold {term.feature} of each view of term {term.name!r}, {', '.join(term.views)}; "
            f"missing of {', '.join(absent)}, available {', '.join(available) or 'none'}; correct the term, "
            "or add the view"
        )
    return [features[view][term.feature] for view in term.views]


def _evaluate(term: Term, *batch: Tensor) -> LossWithStatistics:
    loss = _WithStatistics(term.loss)
    if not _has_own_optimizer(term):
        return loss.forward(*batch)
    scale = 1.0 / term.weight
    parameters = {name: _ScaleGradient.apply(value, scale) for name, value in loss.named_parameters()}
    report: LossWithStatistics = functional_call(loss, parameters, batch)
    return report


class _WithStatistics(nn.Module):
    """A loss whose ``forward`` reports its statistics, because functional_call calls no other method."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, *batch: Tensor) -> LossWithStatistics:
        with_statistics = getattr(self.loss, "with_statistics", None)
        if with_statistics is None:
            return LossWithStatistics(self.loss(*batch), {})
        report: LossWithStatistics = with_statistics(*batch)
        return report


class _ScaleGradient(torch.autograd.Function):
    """Identity whose gradient is multiplied by a constant."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: float) -> Tensor:  # noqa: ANN401 (torch's own context type)
        ctx.scale = scale
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return gradient * ctx.scale, None
