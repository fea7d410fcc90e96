"""From keys to optimization, run folder and trainer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from yacs.config import CfgNode

from engine.folders import RunFolder, new_run
from engine.progress import EpochBar
from modelling.optimization import OptimizerConfig, Schedule, cosine, multistep, with_warmup
from utils.errors import lookup
from utils.memory import keep_freed_memory

SCHEDULES: dict[str, Callable[[CfgNode], Schedule]] = {
    "multistep_lr": lambda solver: multistep(solver.LR_STEPS, solver.GAMMA),
    "cosine_annealing": lambda solver: cosine(
        solver.WARMUP_EPOCHS, solver.MAX_EPOCHS, solver.MIN_LR / solver.BASE_LR
    ),
}
"""SOLVER.LR_SCHEDULER_NAME -> the schedule after the warm-up, from the keys of SOLVER."""


def build_optimization(cfg: CfgNode) -> OptimizerConfig:
    """Optimizer, schedule and clipping."""
    solver = cfg.SOLVER
    return OptimizerConfig(
        solver.OPTIMIZER_NAME,
        solver.BASE_LR,
        solver.WEIGHT_DECAY,
        solver.MOMENTUM,
        build_schedule(cfg),
        solver.GRADIENT_CLIP_VAL,
    )


def build_schedule(cfg: CfgNode) -> Schedule:
    """Factor on the learning rate by progress in epochs."""
    solver = cfg.SOLVER
    schedule = lookup(SCHEDULES, solver.LR_SCHEDULER_NAME, "SOLVER.LR_SCHEDULER_NAME")(solver)
    return with_warmup(schedule, solver.WARMUP_EPOCHS, solver.WARMUP_FACTOR)


def build_run_folder(cfg: CfgNode, dataset: str, method: str) -> RunFolder:
    """A new folder for a run."""
    return new_run(Path(cfg.LOGS_DIR), Path(cfg.RUNS_DIR), Path(dataset, cfg.MODEL.NAME, method))


def build_trainer(cfg: CfgNode, folder: RunFolder | None = None, callbacks: list[Callback] | None = None) -> Trainer:
    """Lightning's trainer; without a folder it keeps nothing, as a test wants it."""
    options: dict[str, Any] = {"logger": False}
    accelerator = _accelerator(cfg.TRAINER.ACCELERATOR)
    if accelerator == "cpu":
        keep_freed_memory()
    if folder is not None:
        board = folder.tensorboard
        options["logger"] = TensorBoardLogger(board.parent.parent, name=board.parent.name, version=board.name)
    return Trainer(
        accelerator=accelerator,
        devices=cfg.TRAINER.DEVICES,
        strategy="ddp" if cfg.TRAINER.DEVICES > 1 else "auto",
        precision=cfg.TRAINER.PRECISION,
        max_epochs=cfg.SOLVER.MAX_EPOCHS,
        check_val_every_n_epoch=cfg.SOLVER.EVAL_PERIOD,
        log_every_n_steps=cfg.SOLVER.LOG_PERIOD,
        deterministic=cfg.REPRODUCIBLE,
        callbacks=[EpochBar(refresh_rate=cfg.SOLVER.LOG_PERIOD), *(callbacks or [])],
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # our samplers share an epoch out themselves
        enable_checkpointing=False,  # engine.recorder writes them under the names we promise
        enable_model_summary=False,
        **options,
    )


def _accelerator(name: str) -> str:
    """``auto`` is CUDA or the CPU, and no other device that Lightning may find."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
