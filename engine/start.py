"""What a run starts from: nothing, given weights, or the place where an earlier run stopped."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only
from yacs.config import CfgNode

from datasets.sample import Sample
from engine import build
from engine.checkpoint import (
    Checkpoint,
    ForeignFile,
    RunCard,
    Weights,
    architecture_of,
    check_architecture,
    read_weights,
)
from engine.cli import Settings
from engine.folders import RunFolder, later_checkpoints, run_of
from engine.recipes import Recipe
from utils.errors import ReidError

logger = logging.getLogger(__name__)


# Resuming goes on with the run that was begun. These keys may change on the way; any other would make it
# a different run under the same name.
_CHANGEABLE = (
    "MODEL.PRETRAIN_PATH", "MODEL.RESUME_TRAINING", "DATASETS.NAMES", "DATASETS.ROOT_DIR", "DATASETS.CHECK_FILES",
    "DATALOADER.NUM_WORKERS", "SOLVER.MAX_EPOCHS", "SOLVER.EVAL_PERIOD", "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.LOG_PERIOD", "TEST.", "TRAINER.", "LOGS_DIR", "RUNS_DIR", "OUTPUT_DIR",
)  # fmt: skip

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
    kind = "a checkpoint of this framework" if isinstance(weights, Checkpoint) else weights.weights.kind
    logger.info("MODEL.PRETRAIN_PATH %s: %s", path, kind)
    return weights


def resumed(settings: Settings, weights: Weights | None, recipe: Recipe) -> Checkpoint | None:
    """The checkpoint to go on from, or None for a fresh run.

    Raises:
        ReidError: if there is none, it comes from another method, or the settings would make it another run.
    """
    if not settings.get("MODEL.RESUME_TRAINING"):
        return None
    if not isinstance(weights, Checkpoint):
        given = "none" if weights is None else f"{weights.weights.kind} ({weights.path})"
        raise ReidError(f"MODEL.RESUME_TRAINING True needs MODEL.PRETRAIN_PATH, a checkpoint of a run, got {given}")
    if weights.card.method != recipe.name:
        raise ReidError(
            f"{weights.path} comes from method {weights.card.method}, but this script trains {recipe.name}; "
            "resume with the script that wrote it, or set MODEL.RESUME_TRAINING False to start anew from it"
        )
    check_architecture(weights, {**settings.file, **settings.overrides})
    fixed = [
        f"{name} ({weights.config[name]} -> {value})"
        for name, value in settings.overrides.items()
        if not name.startswith(_CHANGEABLE) and value != weights.config[name]
    ]
    if fixed:
        raise ReidError(f"a resumed run keeps its settings, got {', '.join(fixed)}; start a new run to change them")
    for name, value in settings.file.items():
        if not name.startswith(_CHANGEABLE) and value != weights.config[name]:
            logger.warning("--config_file: %s %s is left out, the run keeps %s", name, value, weights.config[name])
    return weights


def above_file(
    settings: Settings, weights: Weights | None, resumed_from: Checkpoint | None, recipe: Recipe
) -> dict[str, Any]:
    """The values that ``--config_file`` does not change: most of a resumed run's, the input of a tuned model."""
    if resumed_from is not None:
        changed = {name for name in settings.file if name.startswith(_CHANGEABLE)}
        return {name: value for name, value in resumed_from.config.items() if name not in changed}
    return trained_pixels(settings, weights) if recipe.fine_tunes and weights is not None else {}


def check_resumption(checkpoint: Checkpoint, cfg: CfgNode, card: RunCard) -> None:
    """Refuse to go on where there is nothing left to do, or with other data or processes.

    Raises:
        ReidError: naming what differs.
    """
    epoch, batch = checkpoint.position
    if epoch >= cfg.SOLVER.MAX_EPOCHS:
        raise ReidError(
            f"{checkpoint.path} has finished epoch {epoch - 1}, the last of SOLVER.MAX_EPOCHS "
            f"{cfg.SOLVER.MAX_EPOCHS}; set it higher to train on"
        )
    if checkpoint.card.data not in ("", card.data):
        raise ReidError(
            f"the training images of {card.dataset} must be those of the resumed run, but files or identities "
            "differ; restore them, or set MODEL.RESUME_TRAINING False to start a new run from the weights"
        )
    if cfg.TRAINER.DEVICES != checkpoint.world_size:
        if batch:
            raise ReidError(
                f"{checkpoint.path} stopped within an epoch of {checkpoint.world_size} processes: "
                f"TRAINER.DEVICES must be that number, got {cfg.TRAINER.DEVICES}"
            )
        logger.warning("resuming with %d processes instead of %d", cfg.TRAINER.DEVICES, checkpoint.world_size)


def digest(samples: Sequence[Sample]) -> str:
    """A fingerprint of training files, identities and cameras, whatever folder they lie in."""
    lines = (f"{sample.path.name} {sample.person_id} {sample.camera_id}\n" for sample in samples)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def inherited(settings: Settings, weights: Weights | None, recipe: Recipe) -> dict[str, Any]:
    """What a run takes from the checkpoint it starts from.

    Raises:
        ReidError: if fine-tuning has none to start from, or the settings contradict it.
    """
    if weights is None:
        if recipe.fine_tunes:
            raise ReidError("fine-tuning needs MODEL.PRETRAIN_PATH, a checkpoint to start from, got none")
        return {}
    if recipe.fine_tunes and isinstance(weights, ForeignFile) and not weights.tells_people_apart:
        raise ReidError(f"fine-tuning needs MODEL.PRETRAIN_PATH, a trained model, got {weights.weights.kind}")
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
    if isinstance(weights, Checkpoint) or not weights.tells_people_apart:
        return {}
    trained_on = weights.weights.preprocessing
    if weights.weights.size_unsure and "INPUT.SIZE_TEST" not in {**settings.file, **settings.overrides}:
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


def run_folder(cfg: CfgNode, card: RunCard, resumed_from: Checkpoint | None) -> RunFolder:
    """Where the run writes: a new folder, or that of the resumed run where nothing would be overwritten."""
    if getattr(rank_zero_only, "rank", 0) != 0:  # only the first process writes
        return RunFolder(Path(cfg.LOGS_DIR), Path(cfg.RUNS_DIR))
    if resumed_from is not None:
        tail = Path(card.dataset, cfg.MODEL.NAME, card.method)
        folder = run_of(resumed_from.path, Path(cfg.RUNS_DIR), tail)
        later = later_checkpoints(folder.logs, resumed_from.position[0]) if folder else []
        if folder and not later:
            return folder
        reason = f"{later[0]} would be overwritten" if later else f"{resumed_from.path} lies outside its run"
        logger.warning("a new folder begins: %s", reason)
    return build.build_run_folder(cfg, card.dataset, card.method)
