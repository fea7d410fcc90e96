"""From keys to optimizer, schedule and trainer."""

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from yacs.config import CfgNode

from engine.callbacks.board import Board
from engine.callbacks.checkpoints import WholeFiles
from engine.callbacks.progress import EpochBar
from engine.runs import RunFolder
from modelling.optimization import OptimizerConfig, Schedule, cosine, multistep, with_warmup
from utils.errors import ReidError, lookup
from utils.memory import keep_freed_memory
from utils.processes import runnable_processes

logger = logging.getLogger(__name__)

SCHEDULES: dict[str, Callable[[CfgNode], Schedule]] = {
    "multistep_lr": lambda solver: multistep(solver.LR_STEPS, solver.GAMMA),
    "cosine_annealing": lambda solver: cosine(
        solver.WARMUP_EPOCHS, solver.MAX_EPOCHS, solver.MIN_LR / solver.BASE_LR
    ),
}
"""SOLVER.LR_SCHEDULER_NAME -> the schedule after the warm-up, from the keys of SOLVER."""


def build_optimizer_config(cfg: CfgNode) -> OptimizerConfig:
    """Optimizer, schedule and clipping.

    Raises:
        ReidError: for an unknown optimizer or schedule.
    """
    solver = cfg.SOLVER
    if solver.WARMUP_EPOCHS >= solver.MAX_EPOCHS and solver.WARMUP_EPOCHS:
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
        with_warmup(schedule, solver.WARMUP_EPOCHS, solver.WARMUP_FACTOR),
        solver.GRADIENT_CLIP_VAL,
    )


def prepare_process(cfg: CfgNode) -> None:
    """Settings of the whole process; scripts call this function, a library does not."""
    if _accelerator(cfg.TRAINER.ACCELERATOR) == "cpu":
        keep_freed_memory()
        _warn_of_busy_machine()


def _warn_of_busy_machine() -> None:
    """Warn where OpenMP's threads would wait for one another in a loop while others need the CPUs."""
    processes, cpus = runnable_processes(), os.cpu_count() or 1
    if processes > cpus and "OMP_WAIT_POLICY" not in os.environ:
        logger.warning(
            "%d processes compete for %d CPUs: the environment variable OMP_WAIT_POLICY=PASSIVE makes this faster "
            "(docs/performance.md)", processes, cpus,
        )  # fmt: skip


def check_hardware(cfg: CfgNode) -> None:
    """Refuse devices and a precision that this machine does not have.

    Raises:
        ReidError: if one is missing; the message names the key.
    """
    trainer, devices = cfg.TRAINER, torch.cuda.device_count()
    _check_processes(trainer.DEVICES)
    if trainer.ACCELERATOR == "cuda" and not torch.cuda.is_available():
        raise ReidError("TRAINER.ACCELERATOR cuda needs a CUDA device, but torch sees none; set it to auto")
    if trainer.ACCELERATOR == "cpu" or not devices:
        return
    if devices < trainer.DEVICES:
        raise ReidError(f"TRAINER.DEVICES must be at most the number of GPUs, {devices}, got {trainer.DEVICES}")
    if trainer.PRECISION == "bf16-mixed" and not torch.cuda.is_bf16_supported(False):
        raise ReidError("TRAINER.PRECISION bf16-mixed needs a GPU that computes bf16, this one does not; set 32-true")


def _check_processes(number: int) -> None:
    """Refuse an environment of other processes than those of this run: none of them would write its files."""
    size, rank = (int(os.environ.get(name, default)) for name, default in (("WORLD_SIZE", number), ("RANK", 0)))
    if size != number or rank >= number:
        raise ReidError(
            f"WORLD_SIZE must be TRAINER.DEVICES, {number}, and RANK less, got {size} and {rank}; unset them, or "
            f" start with torchrun --nproc_per_node {number}"
        )


def build_trainer(cfg: CfgNode, folder: RunFolder | None = None, callbacks: list[Callback] | None = None) -> Trainer:
    """Lightning's trainer; without a folder, as in a test, it writes nothing."""
    options: dict[str, Any] = {"logger": False}
    if folder is not None:
        options["logger"] = Board(folder.tensorboard)
    if has_terminal := sys.stderr.isatty():  # a bar in a file is a line of carriage returns
        callbacks = [EpochBar(refresh_rate=cfg.SOLVER.LOG_PERIOD), *(callbacks or [])]
    return Trainer(
        accelerator=_accelerator(cfg.TRAINER.ACCELERATOR),
        devices=cfg.TRAINER.DEVICES,
        strategy="ddp" if cfg.TRAINER.DEVICES > 1 else "auto",
        precision=cfg.TRAINER.PRECISION,
        max_epochs=cfg.SOLVER.MAX_EPOCHS,
        check_val_every_n_epoch=cfg.SOLVER.EVAL_PERIOD,
        log_every_n_steps=cfg.SOLVER.LOG_PERIOD,
        deterministic=cfg.REPRODUCIBLE,
        callbacks=callbacks,
        plugins=[WholeFiles()],
        enable_progress_bar=has_terminal,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # our samplers divide an epoch among the processes
        enable_checkpointing=False,  # our callback writes them under documented names
        enable_model_summary=False,
        **options,
    )


def _accelerator(name: str) -> str:
    """``auto`` is CUDA or the CPU, and no other device that Lightning may find."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
