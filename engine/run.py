"""Training and test as functions that return what they found."""

import logging
from dataclasses import dataclass
from pathlib import Path

from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from yacs.config import CfgNode

from configs import to_yaml
from datasets.datamodule import ReidDataModule
from datasets.low_resolution import LowResolutionFiles
from datasets.sample import ReidSplits
from engine import build, resumption, start
from engine.checkpoint import Checkpoint, RunCard, Weights
from engine.cli import Settings
from engine.initial import initialise, initialise_objective
from engine.model import trained_weights, warn_of_scale
from engine.recipes import Recipe, configuration
from engine.recorder import RunRecorder
from evaluation.protocols import EvaluationData
from evaluation.report.tables import console_tables
from evaluation.report.write import write_outputs, write_summary
from evaluation.results import Entry, EvaluationProtocol, Report
from modelling.network import ReidNetwork
from modelling.reid_module import ReidModule
from utils.errors import ReidError

logger = logging.getLogger(__name__)


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
    resumed = resumption.resumed(settings, weights, recipe)
    inherited = start.inherited(settings, weights, recipe)
    cfg = configuration(recipe, settings, inherited, start.above_file(settings, weights, resumed, recipe))
    build.check_consistency(cfg)
    build.check_training(cfg)
    seed_everything(cfg.REPRODUCIBLE_SEED, verbose=False)
    splits, validated_on = build.build_training_data(cfg)
    views = build.views_of(cfg, low_resolution=recipe.low_resolution_view)
    protocols = build.build_protocols(cfg, build.validation_pairs(cfg, views), rule=build.camera_rule(cfg, splits))
    files = build.build_low_resolution(cfg, splits, build.trained_scales(cfg), build.scales_of(protocols))
    data = ReidDataModule(splits, build.loader_settings(cfg), resumed.position if resumed else (0, 0), files)
    card = RunCard(
        to_yaml(cfg),
        splits.name,
        data.num_ids,
        max(build.trained_scales(cfg)),
        recipe.name,
        resumption.digest(splits.train),
    )
    if resumed is not None:
        resumption.check_resumption(resumed, cfg, card)
    extractor = build.build_extractor(cfg)
    objective = build.build_objective(cfg, data.num_ids, extractor.dim)
    module = ReidModule(extractor, build.build_input(cfg), protocols, objective, build.build_optimization(cfg), views)
    if resumed is None:
        initialise(module.extractor, cfg, weights)
        initialise_objective(objective, weights, card.data)
    folder = resumption.run_folder(cfg, card, resumed)
    validated = build.resolutions(files.test, build.scales_of(protocols), cfg.INPUT.SIZE_TEST)
    recorder = RunRecorder(folder.logs, card, cfg.SOLVER.CHECKPOINT_PERIOD, validated_on, validated)
    trainer = build.build_trainer(cfg, folder, [recorder])
    _announce(cfg, card, data, files, folder.logs)
    trainer.fit(module, datamodule=data, ckpt_path=resumed.path if resumed else None, weights_only=True)
    return FitResult(trainer, folder.logs, recorder.last)


def evaluate(settings: Settings) -> tuple[Report, ...]:
    """Evaluate a checkpoint on one data set or several; print the tables and write below OUTPUT_DIR.

    Raises:
        ReidError: for anything in the settings or the data that cannot work.
    """
    cfg, weights = trained_weights(settings, "test")
    build.check_consistency(cfg)
    _compare_inputs(cfg, weights)
    sets = [build.build_test_data(cfg, name) for name in build.test_names(cfg)]
    if len({splits.name for splits in sets}) < len(sets):
        names = ", ".join(splits.name for splits in sets)
        raise ReidError(
            f"data sets that are tested together must differ in name, each has a folder of results, got {names}; "
            "rename one, or make a link of another name to it"
        )
    extractor = build.build_extractor(cfg)
    initialise(extractor, cfg, weights)
    folder = build.output_folder(cfg)
    folder.mkdir(parents=True, exist_ok=True)  # a folder that cannot be is told before the work
    folders = [folder / splits.name if len(sets) > 1 else folder for splits in sets]
    reports = [_test(cfg, extractor, splits, str(weights.path), at) for splits, at in zip(sets, folders, strict=True)]
    if len(reports) > 1:
        rank_zero_only(write_summary)(folder, reports)
    return tuple(reports)


def _test(cfg: CfgNode, extractor: ReidNetwork, splits: ReidSplits, checkpoint: str, folder: Path) -> Report:
    rule = build.camera_rule(cfg, splits)
    protocols = build.build_protocols(cfg, build.test_pairs(cfg), rule=rule)
    scales = build.scales_of(protocols)
    files = build.build_low_resolution(cfg, splits, (), scales)
    sizes = build.resolutions(files.test, scales, cfg.INPUT.SIZE_TEST)
    logger.info("testing on %s, resolution %s", splits.name, ", ".join(map(str, sizes)))
    module = ReidModule(extractor, build.build_input(cfg), protocols)
    trainer = build.build_trainer(cfg)
    data = ReidDataModule(splits, build.loader_settings(cfg), low_resolution=files)
    trainer.test(module, datamodule=data, verbose=False)
    plain = build.plain_protocol(protocols[0], rule=rule)
    embeddings = EvaluationData(module.vectors, splits.query, splits.gallery)
    verification = build.build_verification(cfg, embeddings, plain)
    report = Report(splits.name, checkpoint, module.results, verification, sizes)
    if trainer.is_global_zero:
        _publish(cfg, report, embeddings, plain, folder)
    return report


def _announce(cfg: CfgNode, card: RunCard, data: ReidDataModule, files: LowResolutionFiles, logs: Path) -> None:
    height, width = cfg.INPUT.SIZE_TRAIN
    images = f"{len(data.splits.train)} images of {card.num_ids} identities at {height}x{width}"
    sizes = build.resolutions(files.train, build.trained_scales(cfg), cfg.INPUT.SIZE_TRAIN)
    if lows := [str(size) for size in sizes if size.scale > 1]:
        images += f", low resolution {', '.join(lows)}"
    logger.info("%s of %s on %s: %s", card.method, cfg.MODEL.NAME, card.dataset, images)
    logger.info("files in %s", logs)


def _compare_inputs(cfg: CfgNode, weights: Weights) -> None:
    """Say where a test's images differ from those of the training."""
    if isinstance(weights, Checkpoint):
        for name in ("SIZE_TEST", "PIXEL_MEAN", "PIXEL_STD", "INTERPOLATION"):
            given, kept = cfg.INPUT[name], weights.config[f"INPUT.{name}"]
            if given != kept:
                logger.warning("INPUT.%s is %s here and %s in the checkpoint", name, given, kept)
    warn_of_scale(weights, {scale for pair in build.test_pairs(cfg) for scale in pair})


def _publish(cfg: CfgNode, report: Report, data: EvaluationData, plain: EvaluationProtocol, folder: Path) -> None:
    console = Console()
    for table in console_tables(report):
        console.print(table)
    if report.verification is not None:
        console.print(report.verification.summary(), soft_wrap=True)
    write_outputs(folder, report, data, plain, build.build_pictures(cfg))
    logger.info("report: %s", folder / "report.json")
