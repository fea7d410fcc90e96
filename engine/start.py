"""What a run starts from: nothing, given weights, or the place where an earlier run stopped."""

import logging
from pathlib import Path
from typing import Any

from engine.checkpoint import (
    Checkpoint,
    Weights,
    architecture_of,
    check_architecture,
    read_weights,
)
from engine.cli import Settings
from engine.recipes import Recipe
from engine.resumption import settled
from utils.errors import ReidError

logger = logging.getLogger(__name__)


# What a run takes from the checkpoint it starts from, unless told otherwise: what the weights were made for.
_INHERITED = (
    "INPUT.SIZE_TRAIN", "INPUT.SIZE_TEST", "INPUT.PIXEL_MEAN", "INPUT.PIXEL_STD", "INPUT.INTERPOLATION",
)  # fmt: skip


def given_weights(settings: Settings) -> Weights | None:
    """What MODEL.PRETRAIN_PATH holds, or None where it is empty.

    Raises:
        ReidError: if the file cannot be read.
    """
    path = settings.get("MODEL.PRETRAIN_PATH")
    if not path:
        return None
    weights = read_weights(Path(path), settings.get("MODEL.NAME"))
    kind = "a checkpoint of this framework" if isinstance(weights, Checkpoint) else weights.kind
    logger.info("MODEL.PRETRAIN_PATH %s: %s", path, kind)
    return weights


def above_file(
    settings: Settings, weights: Weights | None, resumed_from: Checkpoint | None, recipe: Recipe
) -> dict[str, Any]:
    """The values that ``--config_file`` does not change: most of a resumed run's, the input of a tuned model."""
    if resumed_from is not None:
        return settled(settings, resumed_from, recipe)
    return trained_pixels(settings, weights) if recipe.fine_tunes and weights is not None else {}


def inherited(settings: Settings, weights: Weights | None, recipe: Recipe) -> dict[str, Any]:
    """What a run takes from the checkpoint it starts from.

    Raises:
        ReidError: if fine-tuning has none to start from, or the settings contradict it.
    """
    if weights is None:
        if recipe.fine_tunes:
            raise ReidError("fine-tuning needs MODEL.PRETRAIN_PATH, a checkpoint to start from, got none")
        return {}
    if recipe.fine_tunes and not (isinstance(weights, Checkpoint) or weights.is_reid_model):
        raise ReidError(f"fine-tuning needs MODEL.PRETRAIN_PATH, a trained model, got {weights.kind}")
    check_architecture(weights, {**settings.file, **settings.overrides})
    kept = {name: weights.config[name] for name in _INHERITED} if isinstance(weights, Checkpoint) else {}
    return {**kept, **preprocessing_of(weights, settings), **architecture_of(weights)}


def trained_pixels(settings: Settings, weights: Weights) -> dict[str, Any]:
    """Input size and normalisation of a checkpoint of ours: above ``--config_file``, below KEY VALUE.

    A file of another project may not tell them: there the configuration file decides.
    """
    if not isinstance(weights, Checkpoint):
        return {}
    trained = {name: weights.config[name] for name in _INHERITED}
    for name, value in trained.items():
        if settings.file.get(name, value) != value and name not in settings.overrides:
            logger.warning(
                "--config_file: %s %s is left out, the model keeps %s (KEY VALUE on the command line changes it)",
                name, settings.file[name], value,
            )  # fmt: skip
    return trained


def preprocessing_of(weights: Weights, settings: Settings) -> dict[str, Any]:
    """The images that weights of another project were trained on, by key; a guess at their size is said to be one."""
    if isinstance(weights, Checkpoint) or weights.preprocessing is None:
        return {}
    trained_on = weights.preprocessing
    if weights.size_unsure and "INPUT.SIZE_TEST" not in {**settings.file, **settings.overrides}:
        logger.warning(
            "%s does not tell its input size: %d x %d is taken, but CTL's IBN networks were trained at 320 x 320 "
            "(--config_file configs/320_resnet50_ibn_a.yml)", weights.path, *trained_on.size,
        )  # fmt: skip
    return {
        "INPUT.SIZE_TRAIN": list(trained_on.size),
        "INPUT.SIZE_TEST": list(trained_on.size),
        "INPUT.PIXEL_MEAN": list(trained_on.mean),
        "INPUT.PIXEL_STD": list(trained_on.std),
        "INPUT.INTERPOLATION": trained_on.interpolation,
    }
