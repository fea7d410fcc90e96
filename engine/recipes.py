"""What sets one training method apart from another: the views of a batch, and the objective."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from yacs.config import CfgNode

from datasets.sample import Views
from engine.build import low_resolution_views, metric_terms, octuplet_terms, single_view
from losses.objectives import Term


@dataclass(frozen=True)
class Recipe:
    """One training method.

    Attributes:
        name: part of the run folder.
        views: the configuration -> the views of a batch; their names end those of the features.
        terms: the configuration, number of identities and embedding size -> the objective's terms.
        defaults: the method's own defaults by key, below the configuration file.
        fine_tunes: starts from a trained model, a checkpoint or one of another project, and from nothing less.
    """

    name: str
    views: Callable[[CfgNode], Views]
    terms: Callable[[CfgNode, int, int], list[Term]]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fine_tunes: bool = False


_CENTROIDS = {"DATALOADER.USE_RESAMPLING": False, "MODEL.USE_CENTROIDS": True}

# The seed's schedule, and its objective: the octuplet loss alone. Its rate is ten times this one, which costs what
# the network knew of full resolution (README, "Figures seen").
_FINE_TUNING = {
    "SOLVER.MAX_EPOCHS": 10,
    "SOLVER.BASE_LR": 1e-4,
    "SOLVER.LR_STEPS": [4, 7, 9],
    "SOLVER.GAMMA": 0.5,
    "SOLVER.WARMUP_EPOCHS": 0,
    "SOLVER.EVAL_PERIOD": 1,
    "SOLVER.CHECKPOINT_PERIOD": 5,
    "SOLVER.QUERY_XENT_WEIGHT": 0.0,
    "SOLVER.QUERY_CONTRASTIVE_WEIGHT": 0.0,
    "SOLVER.CENTER_LOSS_WEIGHT": 0.0,
    "SOLVER.CENTROID_CONTRASTIVE_WEIGHT": 0.0,
}

BASELINE = Recipe("baseline", single_view, metric_terms, {"SOLVER.CENTROID_CONTRASTIVE_WEIGHT": 0.0})
CTL = Recipe("ctl", single_view, metric_terms, _CENTROIDS)
OCTUPLET = Recipe("octuplet", low_resolution_views, octuplet_terms, _FINE_TUNING, fine_tunes=True)
OCTUPLET_CTL = Recipe(
    "octuplet_ctl", low_resolution_views, octuplet_terms, _FINE_TUNING | _CENTROIDS, fine_tunes=True
)
