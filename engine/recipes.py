"""What sets one training method apart from another: the views of a batch, and the objective."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from yacs.config import CfgNode

from engine.build import baseline_terms, single_view
from losses.objectives import Term


@dataclass(frozen=True)
class Recipe:
    """One training method.

    Attributes:
        name: part of the run folder.
        views: the configuration -> suffix of the feature names and scale of each view of a batch.
        terms: the configuration, number of identities and embedding size -> the objective's terms.
    """

    name: str
    views: Callable[[CfgNode], Mapping[str, int]]
    terms: Callable[[CfgNode, int, int], list[Term]]


BASELINE = Recipe("baseline", single_view, baseline_terms)
