"""Going on with a run: from which checkpoint, with which settings, in which folder."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only
from yacs.config import CfgNode

from datasets.sample import Sample
from engine import build
from engine.build.objectives import TERMS
from engine.checkpoint import Checkpoint, RunCard, Weights, check_architecture
from engine.cli import Settings
from engine.folders import RunFolder, later_checkpoints, run_of, set_later_aside
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


# A checkpoint from before SOLVER.TERMS: those of these terms that have a weight joined the terms of its method.
_TERMS_WITHOUT_LIST = ("identity", "triplet", "center", "centroid_triplet")


def resumed(settings: Settings, weights: Weights | None, recipe: Recipe) -> Checkpoint | None:
    """The checkpoint to go on from, or None for a fresh run.

    Raises:
        ReidError: if there is none, it comes from another method, or the settings would make it another run.
    """
    if not settings.get("MODEL.RESUME_TRAINING"):
        return None
    if not isinstance(weights, Checkpoint):
        given = "none" if weights is None else f"{weights.kind} ({weights.path})"
        raise ReidError(f"MODEL.RESUME_TRAINING True needs MODEL.PRETRAIN_PATH, a checkpoint of a run, got {given}")
    if weights.card.method != recipe.name:
        raise ReidError(
            f"{weights.path} comes from method {weights.card.method}, but this script trains {recipe.name}; "
            "resume with the script that wrote it, or set MODEL.RESUME_TRAINING False to start anew from it"
        )
    if weights.lacking:
        raise ReidError(
            f"{weights.path} must hold what a resumption needs, but lacks {', '.join(weights.lacking)}; resume "
            "from a whole checkpoint, or set MODEL.RESUME_TRAINING False to start a new run from its weights"
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


def settled(settings: Settings, checkpoint: Checkpoint, recipe: Recipe) -> dict[str, Any]:
    """The values of a resumed run that its configuration file does not change."""
    changed = {name for name in settings.file if name.startswith(_CHANGEABLE)}
    values = {name: value for name, value in checkpoint.config.items() if name not in changed}
    if not values["SOLVER.TERMS"]:
        names = dict.fromkeys((*recipe.terms, *_TERMS_WITHOUT_LIST))
        values["SOLVER.TERMS"] = [name for name in names if values[TERMS[name].weight]]
    return values


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
    terms = checkpoint.config["SOLVER.TERMS"]
    if terms not in ([], cfg.SOLVER.TERMS):
        raise ReidError(
            f"a resumed run keeps its settings, got SOLVER.TERMS ({terms} -> {cfg.SOLVER.TERMS}), by the weight of "
            "another term; start a new run to change them"
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


def run_folder(cfg: CfgNode, card: RunCard, resumed_from: Checkpoint | None) -> RunFolder:
    """Where the run writes: a new folder, or that of the resumed run where nothing would be overwritten."""
    if getattr(rank_zero_only, "rank", 0) != 0:  # only the first process writes
        return RunFolder(Path(cfg.LOGS_DIR), Path(cfg.RUNS_DIR))
    if resumed_from is not None:
        tail, next_epoch = Path(card.dataset, cfg.MODEL.NAME, card.method), resumed_from.position[0]
        folder = run_of(resumed_from.path, Path(cfg.RUNS_DIR), tail)
        if folder is None:
            reason = f"{resumed_from.path} lies outside its run"
        elif _moved(cfg, folder.logs, resumed_from):
            reason = f"LOGS_DIR {cfg.LOGS_DIR} is not that of the resumed run"
        elif later := later_checkpoints(folder.logs, next_epoch):
            reason = f"{later[0]} would be overwritten"
        else:
            if aside := set_later_aside(folder.logs, next_epoch):
                logger.warning("the results of epoch %d and later are now in %s", next_epoch, aside)
            return folder
        logger.warning("a new folder begins: %s", reason)
    return build.build_run_folder(cfg, card.dataset, card.method)


def _moved(cfg: CfgNode, logs: Path, resumed_from: Checkpoint) -> bool:
    """Whether the user names another LOGS_DIR than the one in which the run lies."""
    named = Path(cfg.LOGS_DIR).resolve()
    return cfg.LOGS_DIR != resumed_from.config["LOGS_DIR"] and not logs.is_relative_to(named)
