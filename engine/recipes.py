"""What sets one training method apart from another: the views of a batch, and the terms of the objective."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from yacs.config import CfgNode

from configs import with_values
from engine.build.objectives import TERMS, TermBuilder
from engine.cli import Settings
from utils.errors import ReidError, lookup


@dataclass(frozen=True)
class Recipe:
    """One training method.

    Attributes:
        name: part of the run folder.
        terms: names of its terms in :data:`engine.build.objectives.TERMS`.
        low_resolution_view: each batch holds the low-resolution twins of its images too.
        defaults: the method's own defaults by key, below the configuration file.
        fine_tunes: starts from a trained model, a checkpoint or one of another project, and from nothing less.
    """

    name: str
    terms: tuple[str, ...] = ("identity", "triplet", "center")
    low_resolution_view: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fine_tunes: bool = False

    @property
    def possible_terms(self) -> dict[str, TermBuilder]:
        """The rows of the table whose views its batches hold."""
        return {name: row for name, row in TERMS.items() if self.low_resolution_view or "low" not in row.views}


def configuration(
    recipe: Recipe,
    settings: Settings,
    below_file: dict[str, Any] | None = None,
    above_file: dict[str, Any] | None = None,
) -> CfgNode:
    """The effective configuration of a run, frozen: SOLVER.TERMS lists the terms that it trains on.

    Args:
        recipe: the method.
        settings: what the user asked for.
        below_file: values by key that ``--config_file`` changes.
        above_file: those that only the command line changes.

    Raises:
        ReidError: for an unknown term, one whose views the method does not have, or if no term has a weight.
    """
    cfg = settings.resolve(dict(recipe.defaults), below_file or {}, above_file=above_file)
    names = _terms(recipe, {**settings.file, **(above_file or {})}, settings.overrides)
    active = [name for name in names if TERMS[name].weight_in(cfg)]
    if not active:
        *keys, last = [row.weight for row in recipe.possible_terms.values()]
        raise ReidError(
            f"one of {', '.join(keys)} and {last} must be above 0, got 0 for all; give one a weight, e.g. 1"
        )
    cfg = with_values(cfg, {"SOLVER.TERMS": active})
    cfg.freeze()
    return cfg


def _terms(recipe: Recipe, *layers: Mapping[str, Any]) -> list[str]:
    """The terms of the method, or those that the user lists; without a list, a weight above 0 lets its term join.

    Args:
        recipe: the method.
        layers: the user's values by key; a list decides over the layers before it and over the weights beside it.
    """
    names = list(recipe.terms)
    for layer in layers:
        names = list(layer.get("SOLVER.TERMS", names) or recipe.terms)
        if not layer.get("SOLVER.TERMS"):
            weights = {name: layer.get(row.weight, 0) for name, row in recipe.possible_terms.items()}
            names += [name for name, weight in weights.items() if weight and name not in names]
    for name in names:
        lookup(TERMS, name, "SOLVER.TERMS")
        if name not in recipe.possible_terms:
            raise ReidError(
                f"SOLVER.TERMS must be terms that method {recipe.name} has the images for, got {name}, which needs "
                "low-resolution twins; leave it out, or train with finetune_octuplet.py"
            )
    return names


_CENTROIDS = {"DATALOADER.USE_RESAMPLING": False, "MODEL.USE_CENTROIDS": True}

# The seed's schedule. Its rate is ten times this one, which costs what the network knew of full resolution
# (README, "Figures seen").
_FINE_TUNING = {
    "SOLVER.MAX_EPOCHS": 10,
    "SOLVER.BASE_LR": 1e-4,
    "SOLVER.LR_STEPS": [4, 7, 9],
    "SOLVER.GAMMA": 0.5,
    "SOLVER.WARMUP_EPOCHS": 0,
    "SOLVER.EVAL_PERIOD": 1,
    "SOLVER.CHECKPOINT_PERIOD": 5,
}

BASELINE = Recipe("baseline")
CTL = Recipe("ctl", (*BASELINE.terms, "centroid_triplet"), defaults=_CENTROIDS)
OCTUPLET = Recipe("octuplet", ("octuplet",), low_resolution_view=True, defaults=_FINE_TUNING, fine_tunes=True)
OCTUPLET_CTL = Recipe(
    "octuplet_ctl", ("octuplet",), low_resolution_view=True, defaults=_FINE_TUNING | _CENTROIDS, fine_tunes=True
)
