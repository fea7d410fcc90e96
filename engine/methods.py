"""The training methods: the terms of each one's objective, the views of its batches, and its defaults."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from yacs.config import CfgNode

from engine.builders.objective import TERMS, TermBuilder
from utils.errors import ReidError, lookup


@dataclass(frozen=True)
class Method:
    """One training method.

    Attributes:
        name: part of the run folder.
        terms: names of its terms in :data:`engine.builders.objective.TERMS`.
        low_resolution_view: whether each batch holds its images in low resolution too.
        defaults: the method's own defaults by key, below the configuration file.
        fine_tunes: whether it must start from a trained model, a checkpoint or one of another project.
    """

    name: str
    terms: tuple[str, ...] = ("identity", "triplet", "center")
    low_resolution_view: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fine_tunes: bool = False

    @property
    def possible_terms(self) -> dict[str, TermBuilder]:
        """The rows of the table whose views are in its batches."""
        return {name: row for name, row in TERMS.items() if self.low_resolution_view or "low" not in row.views}

    def terms_in(self, cfg: CfgNode, *layers: Mapping[str, Any]) -> list[str]:
        """The terms that a run trains on: those of the method, or those that the user lists.

        Without a list, a user's weight above 0 adds its term. A weight of 0 switches its term off.

        Args:
            cfg: the effective configuration.
            layers: the user's values by key, from the lowest to the highest layer. A list in one of them overrides
                the layers before it and the weights beside it.

        Raises:
            ReidError: for an unknown term, for a term whose views the method does not have, or if no term has a
                weight.
        """
        names = list(self.terms)
        for layer in layers:
            names = list(layer.get("SOLVER.TERMS", names) or self.terms)
            if not layer.get("SOLVER.TERMS"):
                weights = {name: layer.get(row.weight, 0) for name, row in self.possible_terms.items()}
                names += [name for name, weight in weights.items() if weight and name not in names]
        for name in names:
            lookup(TERMS, name, "SOLVER.TERMS")
            if name not in self.possible_terms:
                others = ", ".join(method.name for method in METHODS.values() if method.low_resolution_view)
                raise ReidError(
                    f"SOLVER.TERMS must be terms that method {self.name} has the images for, got {name}, which needs "
                    f"low-resolution views; leave it out, or train by a method that has them: {others}"
                )
        active = [name for name in names if TERMS[name].weight_in(cfg)]
        if not active:
            *keys, last = [row.weight for row in self.possible_terms.values()]
            raise ReidError(
                f"one of {', '.join(keys)} and {last} must be above 0, got 0 for all; give one a weight, e.g. 1"
            )
        return active


_CENTROIDS = {"DATALOADER.USE_RESAMPLING": False, "MODEL.USE_CENTROIDS": True}

# The schedule of the original code, whose rate is ten times this one: that costs accuracy at full resolution
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

BASELINE = Method("baseline")
CTL = Method("ctl", (*BASELINE.terms, "centroid_triplet"), defaults=_CENTROIDS)
OCTUPLET = Method("octuplet", ("octuplet",), low_resolution_view=True, defaults=_FINE_TUNING, fine_tunes=True)
OCTUPLET_CTL = Method(
    "octuplet_ctl", ("octuplet",), low_resolution_view=True, defaults=_FINE_TUNING | _CENTROIDS, fine_tunes=True
)

METHODS: dict[str, Method] = {method.name: method for method in (BASELINE, CTL, OCTUPLET, OCTUPLET_CTL)}
"""The methods by name; each has its own script."""
