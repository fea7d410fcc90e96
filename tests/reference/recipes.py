"""Plain twin of a configuration: the numbers of its training, and the rate of each step.

It reads the file itself and shares no code with the packages. A key of SOLVER that it does not know is an error, so no
recipe is compared in part.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_WEIGHTS = {
    "identity": "QUERY_XENT_WEIGHT",
    "triplet": "QUERY_CONTRASTIVE_WEIGHT",
    "center": "CENTER_LOSS_WEIGHT",
    "weighted_triplet": "WEIGHTED_TRIPLET_WEIGHT",
    "circle": "CIRCLE_WEIGHT",
    "multi_similarity": "MULTI_SIMILARITY_WEIGHT",
}
_WITHOUT_EFFECT = ("IMS_PER_BATCH", "EVAL_PERIOD", "CHECKPOINT_PERIOD", "LOG_PERIOD")  # on a step


class Recipe(NamedTuple):
    """The numbers of a training; a field is a key of SOLVER, and its default is that of the strong baseline (2019)."""

    terms: dict[str, float]  # term -> weight
    network: str
    head: str
    mean: list[float]
    std: list[float]
    optimizer_name: str = "Adam"
    base_lr: float = 3.5e-4
    weight_decay: float = 5e-4
    decay_vectors: bool = True
    momentum: float = 0.9
    bias_lr_factor: float = 1.0
    layer_decay: float = 1.0
    gradient_clip_val: float = 0.0
    average_decay: float = 0.0
    max_epochs: int = 120
    lr_scheduler_name: str = "multistep_lr"
    lr_steps: tuple[int, ...] = (40, 70)
    gamma: float = 0.1
    min_lr: float = 7.7e-7
    delay_epochs: int = 0
    warmup_epochs: int = 10
    warmup_iterations: int = 0
    warmup_factor: float = 0.01
    freeze_epochs: float = 0.0
    freeze_iterations: int = 0
    label_smoothing: float = 0.1
    classifier: str = "linear"
    classifier_margin: float = 0.35
    classifier_scale: float = 64.0
    margin: float = 0.3
    soft_margin: bool = False
    metric_feature: str = "raw"
    distance_func: str = "euclidean"
    center_lr: float = 0.5

    def warmup_steps(self, batches: int) -> float:
        """Of how many steps the rate rises, in epochs of so many batches."""
        return self.warmup_iterations or self.warmup_epochs * batches

    def frozen_steps(self, batches: int) -> float:
        """In how many steps the backbone stays as it is."""
        return self.freeze_iterations or self.freeze_epochs * batches

    def rate(self, step: int, batches: int) -> float:
        """The rate of a step, counted from 0, of a group without a factor."""
        warmup, epoch = self.warmup_steps(batches), step / batches
        rise = self.warmup_factor + (1 - self.warmup_factor) * step / warmup if step < warmup else 1.0
        if self.lr_scheduler_name == "multistep_lr":
            return self.base_lr * rise * self.gamma ** sum(epoch >= first for first in self.lr_steps)
        begin = max(self.delay_epochs, 0 if self.warmup_iterations else self.warmup_epochs)
        angle = math.pi * max(epoch - begin, 0) / (self.max_epochs - begin)
        return rise * (self.min_lr + (self.base_lr - self.min_lr) * (1 + math.cos(angle)) / 2)


def recipe_of(path: Path) -> Recipe:
    """The recipe of a configuration file.

    Raises:
        TypeError: for a key of SOLVER that this twin does not know.
    """
    tree: dict[str, Any] = yaml.safe_load(path.read_text())
    solver, images = dict(tree.get("SOLVER", {})), tree.get("INPUT", {})
    names = solver.pop("TERMS", None) or [
        "identity", "triplet", "center", *(name for name, key in list(_WEIGHTS.items())[3:] if key in solver)
    ]  # fmt: skip
    weights = {name: solver.pop(key, 5e-4 if name == "center" else 1.0) for name, key in _WEIGHTS.items()}
    for key in _WITHOUT_EFFECT:
        solver.pop(key, None)
    return Recipe(
        {name: float(weights[name]) for name in names if weights[name]},
        tree["MODEL"]["NAME"],
        tree["MODEL"].get("HEAD", "bnneck"),
        images.get("PIXEL_MEAN", [0.485, 0.456, 0.406]),
        images.get("PIXEL_STD", [0.229, 0.224, 0.225]),
        **{key.lower(): value for key, value in solver.items()},
    )
