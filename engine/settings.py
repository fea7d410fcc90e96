"""The user's settings, and the one table of precedence: which layer decides the value of a key.

From the lowest to the highest; a later layer overrides an earlier one:

====================  ================================  =======================================================
layer                 training                          test and inference
====================  ================================  =======================================================
1 defaults            ``configs/defaults.py``           the same
2 method              ``engine/methods.py``             -
3 weights             their architecture and images     the same; of a checkpoint of ours all of the sections in
                                                        ``_SECTIONS_OF_USE``
4 ``--config_file``   the user's YAML file              the same
5 pinned              resuming: the run's settings,     the images that a checkpoint of ours was trained on
                      except those in ``_CHANGEABLE``;
                      fine-tuning: as in a test
6 ``KEY VALUE``       the command line                  the same
====================  ================================  =======================================================

A value of the user that contradicts the architecture in the weights is an error. A warning names each value of the
file that layer 5 overrides.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from yacs.config import CfgNode

from configs import SCHEMA, get_cfg, with_values
from engine.preprocessing import keys_of
from utils.errors import ReidError

if TYPE_CHECKING:  # a script understands its command line before it imports torch
    from engine.methods import Method
    from modelling.weights.weights import Weights

logger = logging.getLogger(__name__)

# A test or an inference takes these from the checkpoint; everything else is its own.
_SECTIONS_OF_USE = ("MODEL.", "INPUT.", "DATASETS.", "DATALOADER.")
_NOT_OF_USE = ("INPUT.SCALE", "INPUT.LR_SCALES")  # the user says at which resolution a model is tested

_TRAINED_ANEW = (
    "MODEL.CAMERAS",
    "MODEL.DROP_PATH",
    "MODEL.PATCH_STRIDE",
)  # a new run may have others than its weights

# These keys may change when a run is resumed; any other would make it a different run under the same name.
_CHANGEABLE = (
    "MODEL.PRETRAIN_PATH", "MODEL.RESUME_TRAINING", "DATASETS.NAMES", "DATASETS.ROOT_DIR", "DATASETS.CHECK_FILES",
    "DATALOADER.NUM_WORKERS", "SOLVER.MAX_EPOCHS", "SOLVER.EVAL_PERIOD", "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.LOG_PERIOD", "TEST.", "TRAINER.", "LOGS_DIR", "RUNS_DIR", "OUTPUT_DIR",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The user's values, in two layers, because weights override one but not the other.

    Attributes:
        file: values of ``--config_file`` by key.
        overrides: values of the command line by key.
    """

    file: Mapping[str, Any]
    overrides: Mapping[str, Any]

    @property
    def explicit(self) -> dict[str, Any]:
        """The keys that the user has set, in the file or on the command line."""
        return {**self.file, **self.overrides}

    def is_explicit(self, name: str) -> bool:
        """Whether the user has set a key.

        Raises:
            KeyError: if there is no such key.
        """
        if name not in SCHEMA:
            raise KeyError(name)
        return name in self.explicit

    @cached_property
    def cfg(self) -> CfgNode:
        """The frozen tree without the layers of method and weights."""
        return self.layered()

    def layered(self, *below: Mapping[str, Any], pinned: Mapping[str, Any] | None = None) -> CfgNode:
        """The frozen tree: defaults, ``below``, the file, ``pinned``, the command line."""
        values: dict[str, Any] = {}
        for layer in (*below, self.file, pinned or {}, self.overrides):
            values |= layer
        cfg = with_values(get_cfg(), values)
        cfg.freeze()
        return cfg

    def for_training(self, method: "Method", weights: "Weights | None", *, resume: bool) -> CfgNode:
        """The configuration of a training run.

        Args:
            method: of the training.
            weights: from which the run starts; None = none.
            resume: whether it continues the run that wrote the weights.

        Raises:
            ReidError: if the settings contradict the weights, or would turn a resumed run into another one.
        """
        below: list[Mapping[str, Any]] = [method.defaults]
        pinned: Mapping[str, Any] = {}
        if weights is not None:
            values = {name: value for name, value in self.explicit.items() if resume or name not in _TRAINED_ANEW}
            check_architecture(weights, values)
            images = _images(self, weights)
            below += [images, _architecture(weights)]
            if method.fine_tunes and weights.config:
                pinned = images
        if weights is not None and resume:
            _check_changes(weights.config, self.overrides)
            pinned = {
                name: value
                for name, value in weights.config.items()
                if not (name in self.file and name.startswith(_CHANGEABLE))
            }
        _warn_of_overridden(self, pinned, resume=resume)
        cfg = self.layered(*below, pinned=pinned)
        terms = method.terms_in(cfg, {**self.file, **pinned}, self.overrides)
        if weights is not None and resume and terms != weights.config["SOLVER.TERMS"]:
            raise ReidError(
                f"a resumed run keeps its settings, got SOLVER.TERMS ({weights.config['SOLVER.TERMS']} -> {terms}), "
                "by the weight of another term; start a new run to change them"
            )
        cfg = with_values(cfg, {"SOLVER.TERMS": terms})
        cfg.freeze()
        return cfg

    def for_use(self, weights: "Weights") -> CfgNode:
        """The configuration in which a trained model is tested or used.

        Raises:
            ReidError: if the settings contradict the weights.
        """
        check_architecture(weights, self.explicit)
        of_run = {
            name: value
            for name, value in weights.config.items()
            if name.startswith(_SECTIONS_OF_USE) and name not in _NOT_OF_USE
        }
        if self.is_explicit("DATASETS.NAMES"):
            of_run.pop("DATASETS.TEST_NAMES", None)  # a user who names a data set means that one
        images = _images(self, weights)
        pinned = images if weights.config else {}
        _warn_of_overridden(self, pinned, resume=False)
        return self.layered(of_run, images, _architecture(weights), pinned=pinned)


def check_architecture(weights: "Weights", values: Mapping[str, Any]) -> None:
    """Refuse values that contradict the weights.

    Args:
        weights: the file that will be loaded.
        values: by key.

    Raises:
        ReidError: if one does; the message names each difference.
    """
    differences = [
        f"{name} is {value} in the file and {values[name]} here"
        for name, value in _architecture(weights).items()
        if name in values and values[name] != value
    ]
    if differences:
        raise ReidError(
            f"the configuration contradicts {weights.path}: {'; '.join(differences)}; "
            "leave these keys (or --config_file) out: the file knows them"
        )


def _architecture(weights: "Weights") -> dict[str, Any]:
    return {f"MODEL.{name.upper()}": value for name, value in weights.architecture.items()}


def _images(settings: Settings, weights: "Weights") -> dict[str, Any]:
    """The images that weights were trained on, by key; warn if their size is a guess."""
    images = weights.preprocessing
    if images is None:
        return {}
    if weights.size_unsure and not settings.is_explicit("INPUT.SIZE_TEST"):
        logger.warning(
            "%s does not tell its input size: %d x %d is taken, but %s",
            weights.path,
            *images.size,
            weights.size_unsure,
        )
    # A run of ours may have trained at another size than it tested.
    return {name: weights.config.get(name, value) for name, value in keys_of(images).items()}


def _check_changes(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Refuse command-line values that would turn a resumed run into another one."""
    changes = [
        f"{name} ({config[name]} -> {value})"
        for name, value in overrides.items()
        if not name.startswith(_CHANGEABLE) and value != config[name]
    ]
    if changes:
        raise ReidError(f"a resumed run keeps its settings, got {', '.join(changes)}; start a new run to change them")


def _warn_of_overridden(settings: Settings, pinned: Mapping[str, Any], *, resume: bool) -> None:
    """Warn of the values of the configuration file that do not count."""
    remedy = "" if resume else " (KEY VALUE on the command line changes it)"
    for name, value in settings.file.items():
        if name not in settings.overrides and pinned.get(name, value) != value:
            message = "--config_file: %s %s is left out, the checkpoint's %s counts%s"
            logger.warning(message, name, value, pinned[name], remedy)
