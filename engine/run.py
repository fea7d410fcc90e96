"""Training and test as functions that return their results."""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.utilities import rank_zero_only
from yacs.config import CfgNode

from configs import to_yaml
from datasets.datamodule import ReidDataModule
from datasets.sample import ReidSplits
from engine.builders.data import (
    build_datamodule,
    build_input,
    camera_rule,
    evaluation_sets,
    read_test_data,
    read_training_data,
    trained_scales,
)
from engine.builders.evaluation import (
    baseline_protocol,
    build_protocols,
    embedding_precision,
    evaluation_pairs,
    picture_settings,
    protocol_names,
    resolutions,
    scales_of,
    validation_pairs,
)
from engine.builders.model import build_network
from engine.builders.objective import build_objective, build_views
from engine.builders.trainer import build_optimizer_config, build_trainer
from engine.callbacks.checkpoints import Checkpoints
from engine.callbacks.epoch_log import EpochLog, LastValidation
from engine.callbacks.interruption import Interruption
from engine.callbacks.restoration import Restoration
from engine.checkpoint import Checkpoint, RunCard
from engine.hardware import check_hardware
from engine.methods import Method
from engine.preprocessing import KEYS, preprocessing_of, vectors_of
from engine.processes import check_processes
from engine.reports import origin_of, settings_of
from engine.runs import check_resumption, digest, run_folder
from engine.settings import Settings
from engine.tuning import tune
from engine.weights import (
    initial_weights,
    initialize,
    initialize_objective,
    resumed_checkpoint,
    trained_weights,
    warn_of_scale,
)
from evaluation.protocols import EvaluationData, verify
from evaluation.report.tables import console_summary, console_tables, notes
from evaluation.report.write import write_outputs, write_summary
from evaluation.results import Entry, EvaluationProtocol, Report, VerificationEntry
from modelling.evaluator import Evaluator
from modelling.network import ReidNetwork
from modelling.reid_module import ReidModule
from modelling.weights.weights import Weights
from utils.command_line import show, show_tables
from utils.errors import ReidError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitResult:
    """The result of a training.

    Attributes:
        trainer: Lightning's, with the module in it.
        folder: checkpoints and logs of the run.
        last: entries of the last validation.
    """

    trainer: Trainer
    folder: Path
    last: tuple[Entry, ...]


def fit(method: Method, settings: Settings) -> FitResult:
    """Train by a method: from scratch, from weights, or from the point where a run stopped.

    Raises:
        ReidError: if the settings or the data cannot work.
        InterruptedRun: if a signal stopped the run; a checkpoint of that moment is saved.
    """
    weights = initial_weights(settings, method)
    checkpoint = resumed_checkpoint(settings, method, weights)
    cfg = settings.for_training(method, weights, resume=checkpoint is not None)
    _check_machine(cfg)
    # Wrong names fail before the data are read.
    names, optimizer_config = protocol_names(cfg), build_optimizer_config(cfg)
    seed_everything(cfg.REPRODUCIBLE_SEED, verbose=False)
    network = build_network(cfg)
    cfg = tune(cfg, network, checkpoint.config if checkpoint else {})
    splits, validation_set = read_training_data(cfg)
    views = build_views(cfg, method.name, low_resolution=method.low_resolution_view)
    protocols = build_protocols(cfg, names, validation_pairs(cfg, views), camera_rule=camera_rule(cfg, splits))
    data = build_datamodule(
        cfg, splits, scales_of(protocols), trained_scales(cfg), checkpoint.position if checkpoint else (0, 0)
    )
    card = _card(cfg, method, data, checkpoint)
    objective = build_objective(cfg, data.num_ids, network.head)
    initialize(network, cfg, weights)  # of a checkpoint too, whose tensors are checked here
    initialize_objective(objective, None if checkpoint else weights, card.data)
    evaluator = Evaluator(protocols, splits.query, splits.gallery, embedding_precision(settings.cfg))
    module = ReidModule(
        network,
        build_input(cfg),
        evaluator,
        objective,
        optimizer_config,
        views,
        gathers=cfg.SOLVER.GATHER_EMBEDDINGS,
    )
    restoration = Restoration(checkpoint)
    with run_folder(cfg, card, checkpoint) as folder, _workers_of(data):
        sizes = resolutions(data.low_resolution.test, scales_of(protocols), cfg.INPUT.SIZE_TEST)
        log = EpochLog(folder.logs, card.config, validation_set, sizes)
        checkpoints = Checkpoints(folder.logs, card, cfg.SOLVER.CHECKPOINT_PERIOD)
        callbacks = [
            restoration,
            LastValidation(),
            log,
            checkpoints,
            Interruption(checkpoints, cfg.SOLVER.LOG_PERIOD),
        ]
        trainer = build_trainer(cfg, folder, callbacks)
        _announce(cfg, card, data, folder.logs)
        with restoration.errors_named():
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint.path if checkpoint else None, weights_only=True)
    return FitResult(trainer, folder.logs, module.entries)


def evaluate(settings: Settings) -> tuple[Report, ...]:
    """Evaluate a checkpoint on one data set or several; print the tables and write below OUTPUT_DIR.

    Raises:
        ReidError: if the settings or the data cannot work.
    """
    cfg, weights = trained_weights(settings, "test")
    _check_machine(cfg)
    protocols = protocol_names(cfg)
    _compare_images(cfg, weights)
    network = build_network(cfg)
    sets = [read_test_data(cfg, name, trained_here=bool(weights.config)) for name in evaluation_sets(cfg)]
    if len({splits.name for splits in sets}) < len(sets):
        names = ", ".join(splits.name for splits in sets)
        raise ReidError(
            f"data sets that are tested together must differ in name, each has a folder of results, got {names}; "
            "rename one, or make a link of another name to it"
        )
    initialize(network, cfg, weights)
    folder = Path(cfg.OUTPUT_DIR)
    folder.mkdir(parents=True, exist_ok=True)  # fails before the work, not after it
    folders = [folder / splits.name if len(sets) > 1 else folder for splits in sets]
    reports = [_test(cfg, protocols, network, splits, weights, at) for splits, at in zip(sets, folders, strict=True)]
    if len(reports) > 1:
        rank_zero_only(write_summary)(folder, reports)
        rank_zero_only(show_tables)(console_summary(reports))
    return tuple(reports)


def _check_machine(cfg: CfgNode) -> None:
    check_processes(cfg)
    check_hardware(cfg)


def _test(
    cfg: CfgNode, names: list[str], network: ReidNetwork, splits: ReidSplits, weights: Weights, folder: Path
) -> Report:
    rule = camera_rule(cfg, splits)
    protocols = build_protocols(cfg, names, evaluation_pairs(cfg), camera_rule=rule)
    data = build_datamodule(cfg, splits, scales_of(protocols))
    sizes = resolutions(data.low_resolution.test, scales_of(protocols), cfg.INPUT.SIZE_TEST)
    logger.info("testing on %s, resolution %s", splits.name, ", ".join(map(str, sizes)))
    evaluator = Evaluator(protocols, splits.query, splits.gallery, embedding_precision(cfg))
    trainer = build_trainer(cfg)
    module = ReidModule(network, build_input(cfg), evaluator)
    with _workers_of(data):
        trainer.test(module, datamodule=data, verbose=False)
    baseline = baseline_protocol(protocols[0], camera_rule=rule)
    assert module.data is not None
    verification = _verify(cfg, module.data, baseline)
    report = Report(
        splits.name,
        str(weights.path),
        module.entries,
        verification,
        sizes,
        origin_of(weights),
        settings_of(cfg, weights),
        vectors_of(cfg),
    )
    if trainer.is_global_zero:
        write_outputs(folder, report, module.data, baseline, picture_settings(cfg))
        logger.info("report: %s", folder / "report.json")
        _print(report)
    return report


@contextmanager
def _workers_of(data: ReidDataModule) -> Iterator[None]:
    """End the workers with the block; what kept them from starting is its error."""
    with closing(data):
        try:
            yield
        except RuntimeError as error:
            # Lightning's cleanup fails where a loader has no iterator, and hides the reason.
            if "combined_loader" in str(error) and error.__context__ is not None:
                raise error.__context__ from None
            raise


def _verify(cfg: CfgNode, data: EvaluationData, protocol: EvaluationProtocol) -> VerificationEntry | None:
    """Which distance means the same person; None if the set has too few pairs."""
    try:
        return verify(data, protocol, cfg.TEST.FPR)
    except ReidError as error:
        logger.warning("no verification: %s", error)
        return None


def _card(cfg: CfgNode, method: Method, data: ReidDataModule, checkpoint: Checkpoint | None) -> RunCard:
    """Describe a run, and compare it with the checkpoint from which it goes on."""
    scales = trained_scales(cfg)
    views = {*scales, 1} if method.low_resolution_view else {*scales}
    card = RunCard(
        to_yaml(cfg),
        data.splits.name,
        data.num_ids,
        max(scales),
        method.name,
        digest(data.splits.train),
        tuple(sorted(views)),
    )
    if checkpoint is not None:
        check_resumption(checkpoint, cfg, card)
    return card


def _announce(cfg: CfgNode, card: RunCard, data: ReidDataModule, logs: Path) -> None:
    height, width = cfg.INPUT.SIZE_TRAIN
    images = f"{len(data.splits.train)} images of {card.num_ids} identities at {height}x{width}"
    sizes = resolutions(data.low_resolution.train, trained_scales(cfg), cfg.INPUT.SIZE_TRAIN)
    if low := [str(size) for size in sizes if size.scale > 1]:
        images += f", low resolution {', '.join(low)}"
    logger.info("%s of %s on %s: %s", card.method, cfg.MODEL.NAME, card.dataset, images)
    logger.info("files in %s", logs)


def _compare_images(cfg: CfgNode, weights: Weights) -> None:
    """Warn where a test's images differ from those of the training."""
    if weights.config:  # files of other projects hardly tell their images
        for name, value, original in preprocessing_of(cfg).difference(preprocessing_of(weights.config)):
            logger.warning("%s is %s here and %s in the checkpoint", KEYS[name], value, original)
    warn_of_scale(weights, {scale for pair in evaluation_pairs(cfg) for scale in pair})


def _print(report: Report) -> None:
    show_tables(*console_tables(report))
    for note in notes(report):
        show(f"note: {note}\n")
    if report.verification is not None:
        show(f"{report.verification.summary()}\n")
