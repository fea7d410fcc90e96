"""From keys to optimizer, schedule and trainer."""

import logging
import sys
from collections.abc import Callable
from typing import Any

from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.plugins import MixedPrecision
from pytorch_lightning.strategies import DDPStrategy
from torch.optim import Optimizer
from yacs.config import CfgNode

from engine.callbacks.board import Board
from engine.callbacks.checkpoints import WholeFiles
from engine.callbacks.progress import EpochBar
from engine.hardware import accelerator
from engine.processes import is_started_by_slurm, num_processes
from engine.runs import RunFolder
from modelling.optimization import OptimizerConfig, Schedule, Span, Warmup, cosine, multistep
from modelling.parameter_groups import GroupRules
from utils.errors import lookup

logger = logging.getLogger(__name__)

SCHEDULES: dict[str, Callable[[CfgNode], Schedule]] = {
    "multistep_lr": lambda solver: multistep(solver.LR_STEPS, solver.GAMMA),
    "cosine_annealing": lambda solver: cosine(
        max(0 if solver.WARMUP_ITERATIONS else solver.WARMUP_EPOCHS, solver.DELAY_EPOCHS),
        solver.MAX_EPOCHS,
        solver.MIN_LR / solver.BASE_LR,
    ),
}
"""SOLVER.LR_SCHEDULER_NAME -> the schedule after the warm-up, from the keys of SOLVER."""


class OneScale(MixedPrecision):
    """Mixed precision of 16 bits with one scale for the gradients of all optimizers.

    Lightning would change the scale after each optimizer's step, so the gradients of the next one would be divided by
    another scale than they were multiplied by. Here :class:`ReidModule` changes it once all optimizers have stepped,
    and removes it from gradients that it clips.
    """

    def optimizer_step(  # type: ignore[override]
        self,
        optimizer: Optimizer,
        model: LightningModule,  # noqa: ARG002
        closure: Callable[[], Any],
        **options: Any,  # noqa: ANN401 (as Lightning declares them)
    ) -> Any:  # noqa: ANN401
        """Step, unless a gradient of this optimizer overflowed."""
        assert self.scaler is not None
        closure()
        return self.scaler.step(optimizer, **options)


def build_optimizer_config(cfg: CfgNode) -> OptimizerConfig:
    """Optimizer, schedule and clipping.

    Raises:
        ReidError: for an unknown optimizer or schedule.
    """
    solver = cfg.SOLVER
    if solver.WARMUP_EPOCHS >= solver.MAX_EPOCHS and solver.WARMUP_EPOCHS and not solver.WARMUP_ITERATIONS:
        logger.warning(
            "SOLVER.WARMUP_EPOCHS %d of SOLVER.MAX_EPOCHS %d: the rate never reaches SOLVER.BASE_LR",
            solver.WARMUP_EPOCHS, solver.MAX_EPOCHS,
        )  # fmt: skip
    schedule = lookup(SCHEDULES, solver.LR_SCHEDULER_NAME, "SOLVER.LR_SCHEDULER_NAME")(solver)
    return OptimizerConfig(
        solver.OPTIMIZER_NAME,
        solver.BASE_LR,
        solver.WEIGHT_DECAY,
        solver.MOMENTUM,
        schedule,
        solver.GRADIENT_CLIP_VAL,
        solver.ACCUMULATE_BATCHES,
        GroupRules(solver.BIAS_LR_FACTOR, solver.DECAY_VECTORS, solver.LAYER_DECAY),
        Warmup(Span(solver.WARMUP_EPOCHS, solver.WARMUP_ITERATIONS), solver.WARMUP_FACTOR),
        Span(solver.FREEZE_EPOCHS, solver.FREEZE_ITERATIONS),
        solver.AVERAGE_DECAY,
    )


def build_trainer(cfg: CfgNode, folder: RunFolder | None = None, callbacks: list[Callback] | None = None) -> Trainer:
    """Lightning's trainer; without a folder, as in a test, it writes nothing."""
    options: dict[str, Any] = {"logger": False, "plugins": [WholeFiles()]}
    if folder is not None:
        options["logger"] = Board(folder.tensorboard)
    if cfg.TRAINER.PRECISION == "16-mixed":
        options["plugins"].append(OneScale("16-mixed", accelerator(cfg)))
    else:
        options["precision"] = "32-true" if cfg.TRAINER.PRECISION == "auto" else cfg.TRAINER.PRECISION
    if num_processes(cfg) > 1:
        # A validation takes the running statistics of the first process, so no step needs them to be the same.
        options["strategy"] = DDPStrategy(gradient_as_bucket_view=True, broadcast_buffers=False)
    if is_started_by_slurm():  # a job that is requeued goes on as any other run does, from a checkpoint of ours
        options["plugins"].append(SLURMEnvironment(auto_requeue=False))
    if has_terminal := sys.stderr.isatty():  # a bar in a file is a line of carriage returns
        callbacks = [EpochBar(refresh_rate=cfg.SOLVER.LOG_PERIOD), *(callbacks or [])]
    return Trainer(
        accelerator=accelerator(cfg),
        devices=cfg.TRAINER.DEVICES,
        num_nodes=cfg.TRAINER.NUM_NODES,
        sync_batchnorm=cfg.TRAINER.SYNC_BATCHNORM,
        max_epochs=cfg.SOLVER.MAX_EPOCHS,
        check_val_every_n_epoch=cfg.SOLVER.EVAL_PERIOD,
        log_every_n_steps=cfg.SOLVER.LOG_PERIOD,
        deterministic=cfg.REPRODUCIBLE,
        # cuDNN tries its algorithms for each new shape, which pays where the batches are of one size.
        benchmark=cfg.DATALOADER.USE_RESAMPLING and not cfg.REPRODUCIBLE,
        callbacks=callbacks,
        enable_progress_bar=has_terminal,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # our samplers divide an epoch among the processes
        enable_checkpointing=False,  # our callback writes them under documented names
        enable_model_summary=False,
        **options,
    )
