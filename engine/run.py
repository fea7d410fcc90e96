"""Training and test as functions that return what they found."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer, seed_everything
from rich.console import Console
from yacs.config import CfgNode

from configs import to_yaml
from datasets.datamodule import ReidDataModule
from engine import build, start
from engine.checkpoint import Checkpoint, ForeignFile, RunCard, Weights, architecture_of, check_architecture
from engine.cli import Settings
from engine.folders import RunFolder
from engine.recipes import Recipe
from engine.recorder import RunRecorder
from evaluation.outputs import Evidence, write_outputs
from evaluation.report import Entry, Report, table
from losses.objectives import Objective
from modelling.reid_module import ReidModule
from utils.errors import ReidError
from utils.resolution import low_resolution_size

logger = logging.getLogger(__name__)

# What a test takes from a checkpoint; everything else is a matter of the test.
_KEPT_IN_A_TEST = ("MODEL.", "INPUT.", "DATASETS.", "DATALOADER.")


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
    weights = start.given_weights(settings)
    resumed = start.resumed(settings, weights, recipe)
    inherited = start.inherited(settings, weights, recipe)
    settled = start.settled(settings, resumed) if resumed else None
    cfg = settings.resolve(dict(recipe.defaults), inherited, above_file=settled)
    build.check_consistency(cfg)
    seed_everything(cfg.REPRODUCIBLE_SEED, verbose=False)
    splits = build.build_splits(cfg, with_train=True)
    data = ReidDataModule(splits, build.loader_settings(cfg), resumed.position if resumed else (0, 0))
    card = RunCard(to_yaml(cfg), splits.name, data.num_ids, cfg.INPUT.SCALE, recipe.name, start.digest(splits.train))
    if resumed is not None:
        start.check_resumption(resumed, cfg, card)
    module = _training_module(cfg, recipe, data)
    if resumed is None:
        start.initialise(module.extractor, cfg, weights)
    folder = start.run_folder(cfg, card, resumed)
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
    weights = start.given_weights(settings)
    if weights is None or (isinstance(weights, ForeignFile) and not weights.tells_people_apart):
        given = "nothing" if weights is None else f"{weights.path}, which holds a {weights.weights.kind}"
        raise ReidError(f"test needs MODEL.PRETRAIN_PATH, a trained model, got {given}")
    check_architecture(weights, {**settings.file, **settings.overrides})
    cfg = settings.resolve(_kept_in_a_test(weights, settings))
    build.check_consistency(cfg)
    _announce_test(cfg, weights)
    splits = build.build_splits(cfg, with_train=False)
    extractor = build.build_extractor(cfg)
    start.initialise(extractor, cfg, weights)
    protocols = build.build_protocols(cfg, build.test_pairs(cfg))
    module = ReidModule(extractor, build.build_input(cfg), protocols)
    trainer = build.build_trainer(cfg)
    trainer.test(module, datamodule=ReidDataModule(splits, build.loader_settings(cfg)), verbose=False)
    evidence = Evidence(module.vectors, splits.query, splits.gallery, build.plain_protocol(cfg, protocols[0]))
    verification = build.build_verification(cfg, evidence)
    report = Report(splits.name, str(weights.path), module.results, verification)
    if trainer.is_global_zero:
        _publish(cfg, report, evidence)
    return report


def _kept_in_a_test(weights: Weights, settings: Settings) -> dict[str, Any]:
    """What the file decides. The resolution of a test is its own: that of the training is no silent part of it."""
    resolution = {"INPUT.SCALE": settings.get("INPUT.SCALE"), "INPUT.LR_SCALES": []}
    if isinstance(weights, Checkpoint):
        kept = {name: value for name, value in weights.config.items() if name.startswith(_KEPT_IN_A_TEST)}
        return kept | resolution
    return start.preprocessing_of(weights) | architecture_of(weights) | resolution


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


def _announce(cfg: CfgNode, card: RunCard, data: ReidDataModule, folder: RunFolder) -> None:
    height, width = cfg.INPUT.SIZE_TRAIN
    images = f"{len(data.splits.train)} images of {card.num_ids} identities at {height}x{width}"
    lows = [scale for scale in build.trained_scales(cfg) if scale > 1]
    sizes = (f"x{scale} to {'x'.join(map(str, low_resolution_size(height, width, scale)))}" for scale in lows)
    if lows:
        images += f", degraded by {', '.join(sizes)} and back"
    logger.info("%s of %s on %s: %s", card.method, cfg.MODEL.NAME, card.dataset, images)
    logger.info("files in %s", folder.logs)


def _announce_test(cfg: CfgNode, weights: Weights) -> None:
    """Say at which resolution the test runs, and where it differs from the training."""
    height, width = cfg.INPUT.SIZE_TEST
    scales = sorted({scale for pair in build.test_pairs(cfg) for scale in pair})
    sizes = (f"x{scale} ({'x'.join(map(str, low_resolution_size(height, width, scale)))})" for scale in scales)
    logger.info("testing at %dx%d, resolution %s", height, width, ", ".join(sizes))
    if not isinstance(weights, Checkpoint):
        return
    for name in ("SIZE_TEST", "PIXEL_MEAN", "PIXEL_STD", "INTERPOLATION"):
        if cfg.INPUT[name] != weights.config[f"INPUT.{name}"]:
            logger.warning(
                "INPUT.%s is %s here and %s in the checkpoint", name, cfg.INPUT[name], weights.config[f"INPUT.{name}"]
            )
    trained = weights.card.scale
    if trained not in scales:
        logger.warning("the checkpoint was trained at x%d (--scale %d tests there)", trained, trained)


def _publish(cfg: CfgNode, report: Report, evidence: Evidence) -> None:
    folder = build.output_folder(cfg)
    write_outputs(folder, report, evidence, build.build_pictures(cfg))
    console = Console()
    console.print(table(report.dataset, report.entries))
    if report.verification is not None:
        console.print(report.verification.summary(), soft_wrap=True)
    logger.info("report: %s", folder / "report.json")
