"""The devices of a run: which are used, and what the process needs for them."""

import logging
import os

import torch
from yacs.config import CfgNode

from utils.cpu import flush_subnormals, keep_freed_memory
from utils.errors import ReidError
from utils.precision import multiplies_bf16
from utils.processes import runnable_processes

logger = logging.getLogger(__name__)


def accelerator(cfg: CfgNode) -> str:
    """Lightning's name of the device; ``auto`` is CUDA or the CPU, and no other that Lightning may find."""
    name: str = cfg.TRAINER.ACCELERATOR
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def prepare_process(cfg: CfgNode) -> None:
    """Settings of the whole process; scripts call this function before their first tensor, a library does not."""
    flush_subnormals()  # on CUDA too: the CPU evaluates
    if accelerator(cfg) == "cpu":
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
    if trainer.ACCELERATOR == "cuda" and not torch.cuda.is_available():
        raise ReidError("TRAINER.ACCELERATOR cuda needs a CUDA device, but torch sees none; set it to auto")
    if accelerator(cfg) == "cpu":
        if trainer.PRECISION == "16-mixed":
            raise ReidError("TRAINER.PRECISION 16-mixed needs a CUDA device, got the CPU; set it to auto")
        return
    if devices < trainer.DEVICES:
        raise ReidError(f"TRAINER.DEVICES must be at most the number of GPUs, {devices}, got {trainer.DEVICES}")
    if trainer.PRECISION == "bf16-mixed" and not multiplies_bf16(torch.device("cuda")):
        raise ReidError("TRAINER.PRECISION bf16-mixed needs a GPU that computes bf16, this one does not; set 32-true")
