"""What sets one training method apart from another: the views of a batch, and the objective."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from yacs.config import CfgNode

from engine.build import baseline_terms, ctl_terms, single_view
from losses.objectives import Term


@dataclass(frozen=True)
class Recipe:
    """One training method.

    Attributes:
        name: part of the run folder.
        views: the configuration -> suffix of the feature names and scale of each view of a batch.
        terms: the configuration, number of identities and embedding size -> the objective's terms.
        defaults: the method's own defaults by key, below the configuration file.
    """

    name: str
    views: Callable[[CfgNode], Mapping[str, int]]
    terms: Callable[[CfgNode, int, int], list[Term]]
    defaults: Mapping[str, Any] = field(default_factory=dict)


BASELINE = Recipe("baseline", single_view, baseline_terms)
CTL = Recipe(
    "ctl",
    single_view,
    ctl_terms,
    {"DATALOADER.USE_RESAMPLING": False, "MODEL.USE_CENTROIDS": True},
)
