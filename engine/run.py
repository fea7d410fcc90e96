"""Training and test as functions that return what they found."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from yacs.config import CfgNode

from configs import to_yaml
from datasets.datamodule import ReidDataModule
from engine import build
from engine.checkpoint import (
    ARCHITECTURE_KEYS,
    BackboneWeights,
    Checkpoint,
    RunCard,
    check_architecture,
    load_extractor,
    read_weights,
)
from engine.cli import Settings
from engine.folders import RunFolder, later_checkpoints, run_of
from engine.recipes import Recipe
from engine.recorder import RunRecorder
from evaluation.outputs import Evidence, write_outputs
from evaluation.report import Entry, Report, table
from losses.objectives import Objective
from modelling.backbones.resnet import load_backbone_weights
from modelling.extractor import FeatureExtractor
from modelling.reid_module import ReidModule
from utils.errors import ReidError
from utils.resolution import low_resolution_size

logger = logging.getLogger(__name__)

# Resuming goes on with the run that was begun. These keys may change on the way; any other would make it
# a different run under the same name.
_CHANGEABLE = (
    "MODEL.PRETRAIN_PATH", "MODEL.RESUME_TRAINING", "DATASETS.ROOT_DIR", "DATASETS.CHECK_FILES",
    "DATALOADER.NUM_WORKERS", "SOLVER.MAX_EPOCHS", "SOLVER.EVAL_PERIOD", "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.LOG_PERIOD", "TEST.", "TRAINER.", "LOGS_DIR", "RUNS_DIR", "OUTPUT_DIR",
)  # fmt: skip

# What a test takes from a checkpoint; everything else is a matter of the test.
_KEPT_IN_A_TEST = ("MODEL.", "INPUT.", "DATASETS.", "DATALOADER.")

# What a run takes from the checkpoint it starts from, unless told otherwise: what the weights were made for.
_INHERITED = (
    *ARCHITECTURE_KEYS, "INPUT.SIZE_TRAIN", "INPUT.SIZE_TEST", "INPUT.PIXEL_MEAN", "INPUT.PIXEL_STD",
)  # fmt: skip


@dataclass(frozen=True)
class FitResult:
    """What training leaves.

    Attributes:
        trainer: Lightning's, with the module in it.
        folder: checkpoints and logs of the run.
        last: the last validation's entries.
    """

    trainer: Trainer
    folder: Path
    last: tuple[Entry, ...]


def fit(recipe: Recipe, settings: Settings) -> FitResult:
    """Train by a recipe: from scratch, from given weights, or from where a run stopped.

    Raises:
        ReidError: for anything in the settings or the data that cannot work.
        InterruptedRun: if stopped by a signal; what was reached is saved.
    """
    weights = _given_weights(settings)
    resumed = _resumed(settings, weights, recipe)
    inherited = _inherited(settings, weights, recipe)
    cfg = settings.resolve(dict(recipe.defaults), inherited, above_file=resumed.config if resumed else None)
    build.check_consistency(cfg)
    seed_everything(cfg.REPRODUCIBLE_SEED, verbose=False)
    splits = build.build_splits(cfg, with_train=True)
    data = ReidDataModule(splits, build.loader_settings(cfg), resumed.position if resumed else (0, 0))
    module = _training_module(cfg, recipe, data)
    if resumed is None:
        _initialise(module.extractor, cfg, weights)
    card = RunCard(to_yaml(cfg), splits.name, data.num_ids, cfg.INPUT.SCALE, recipe.name)
    folder = _run_folder(cfg, card, resumed)
    recorder = RunRecorder(folder.logs, card, cfg.SOLVER.CHECKPOINT_PERIOD)
    trainer = build.build_trainer(cfg, folder, [recorder])
    _announce(cfg, card, data, folder)
    trainer.fit(module, datamodule=data, ckpt_path=resumed.path if resumed else None, weights_only=True)
    return FitResult(trainer, folder.logs, recorder.last)


def evaluate(settings: Settings) -> Report:
    """Evaluate a checkpoint; print the table and write report.json below OUTPUT_DIR.

    Raises:
        ReidError: for anything in the settings or the data that cannot work.
    """
    checkpoint = _given_weights(settings)
    if not isinstance(checkpoint, Checkpoint):
        given = "nothing" if checkpoint is None else f"{checkpoint.path}, which holds backbone weights"
        raise ReidError(f"test needs MODEL.PRETRAIN_PATH, a checkpoint of this framework, got {given}")
    check_architecture(checkpoint, {**settings.file, **settings.overrides})
    # The resolution of a test is its own: the scale of the training is no silent part of it.
    kept = {name: value for name, value in checkpoint.config.items() if name.startswith(_KEPT_IN_A_TEST)}
    cfg = settings.resolve({**kept, "INPUT.SCALE": settings.get("INPUT.SCALE"), "INPUT.LR_SCALES": []})
    build.check_consistency(cfg)
    if checkpoint.card.scale != cfg.INPUT.SCALE and not cfg.TEST.SCALES:
        logger.warning(
            "testing at x%d; the checkpoint was trained at x%d (--scale %d tests there)",
            cfg.INPUT.SCALE, checkpoint.card.scale, checkpoint.card.scale,
        )  # fmt: skip
    splits = build.build_splits(cfg, with_train=False)
    extractor = build.build_extractor(cfg)
    load_extractor(extractor, checkpoint)
    protocols = build.build_protocols(cfg, build.test_pairs(cfg))
    module = ReidModule(extractor, build.build_input(cfg), protocols)
    trainer = build.build_trainer(cfg)
    trainer.test(module, datamodule=ReidDataModule(splits, build.loader_settings(cfg)), verbose=False)
    evidence = Evidence(module.vectors, splits.query, splits.gallery, protocols[0])
    report = Report(
        splits.name, str(checkpoint.path), module.results, build.build_verification(cfg, evidence)
    )
    if trainer.is_global_zero:
        _publish(cfg, report, evidence)
    return report


def _given_weights(settings: Settings) -> Checkpoint | BackboneWeights | None:
    path = settings.get("MODEL.PRETRAIN_PATH")
    if not path:
        return None
    weights = read_weights(Path(path))
    kind = "a checkpoint of this framework" if isinstance(weights, Checkpoint) else "backbone weights"
    logger.info("MODEL.PRETRAIN_PATH %s is %s", path, kind)
    return weights


def _resumed(
    settings: Settings, weights: Checkpoint | BackboneWeights | None, recipe: Recipe
) -> Checkpoint | None:
    """The checkpoint to go on from, or None for a fresh run."""
    if not settings.get("MODEL.RESUME_TRAINING"):
        return None
    if not isinstance(weights, Checkpoint):
        given = "none" if weights is None else f"backbone weights ({weights.path})"
        raise ReidError(
            f"MODEL.RESUME_TRAINING True needs MODEL.PRETRAIN_PATH, a checkpoint of a run, got {given}"
        )
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
        raise ReidError(
            f"a resumed run keeps its settings, got {', '.join(fixed)}; start a new run to change them"
        )
    return weights


def _inherited(
    settings: Settings, weights: Checkpoint | BackboneWeights | None, recipe: Recipe
) -> dict[str, Any]:
    """What a run takes from the checkpoint it starts from.

    Raises:
        ReidError: if fine-tuning has none to start from, or the settings contradict it.
    """
    if isinstance(weights, Checkpoint):
        check_architecture(weights, {**settings.file, **settings.overrides})
        return {name: weights.config[name] for name in _INHERITED}
    if recipe.fine_tunes:
        given = "none" if weights is None else f"backbone weights ({weights.path})"
        raise ReidError(f"fine-tuning needs MODEL.PRETRAIN_PATH, a checkpoint to start from, got {given}")
    return {}


def _training_module(cfg: CfgNode, recipe: Recipe, data: ReidDataModule) -> ReidModule:
    extractor = build.build_extractor(cfg)
    views = recipe.views(cfg)
    return ReidModule(
        extractor,
        build.build_input(cfg),
        build.build_protocols(cfg, build.validation_pairs(cfg, views)),
        Objective(recipe.terms(cfg, data.num_ids, extractor.dim)),
        build.build_optimization(cfg),
        views,
    )


def _initialise(
    extractor: FeatureExtractor, cfg: CfgNode, weights: Checkpoint | BackboneWeights | None
) -> None:
    if isinstance(weights, Checkpoint):
        load_extractor(extractor, weights)
    elif weights is not None:
        load_backbone_weights(extractor.backbone, weights.state, str(weights.path))
    elif (imagenet := build.initial_weights(cfg)) is not None:
        load_backbone_weights(extractor.backbone, imagenet, "the ImageNet file")


def _run_folder(cfg: CfgNode, card: RunCard, resumed: Checkpoint | None) -> RunFolder:
    if getattr(rank_zero_only, "rank", 0) != 0:  # only the first process writes
        return RunFolder(Path(cfg.LOGS_DIR), Path(cfg.RUNS_DIR))
    if resumed is not None:
        folder = run_of(resumed.path, Path(cfg.RUNS_DIR))
        later = later_checkpoints(folder.logs, resumed.epoch)
        if not later:
            return folder
        logger.warning(
            "%s lies behind %s: its later checkpoints stay, a new folder begins", resumed.path, later[0]
        )
    return build.build_run_folder(cfg, card.dataset, card.method)


def _announce(cfg: CfgNode, card: RunCard, data: ReidDataModule, folder: RunFolder) -> None:
    height, width = cfg.INPUT.SIZE_TRAIN
    images = f"{len(data.splits.train)} images of {card.num_ids} identities at {height}x{width}"
    lows = [scale for scale in build.trained_scales(cfg) if scale > 1]
    sizes = (f"x{scale} to {'x'.join(map(str, low_resolution_size(height, width, scale)))}" for scale in lows)
    if lows:
        images += f", degraded by {', '.join(sizes)} and back"
    logger.info("%s of %s on %s: %s", card.method, cfg.MODEL.NAME, card.dataset, images)
    logger.info("files in %s", folder.logs)


def _publish(cfg: CfgNode, report: Report, evidence: Evidence) -> None:
    folder = build.output_folder(cfg)
    write_outputs(folder, report, evidence, build.build_pictures(cfg))
    console = Console()
    console.print(table(report.dataset, report.entries))
    if report.verification is not None:
        console.print(report.verification.summary(), soft_wrap=True)
    logger.info("report: %s", folder / "report.json")
