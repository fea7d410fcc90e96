"""What tests of several packages call."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from datasets.synthetic import SyntheticSpec
from modelling.backbones.non_local import NonLocal
from utils import blocks

if TYPE_CHECKING:
    from pathlib import Path

    from engine.methods import Method
    from engine.run import FitResult

TINY = SyntheticSpec(train_ids=8, test_ids=6, cameras=2, images_per_camera=3, height=64, width=32)
"""The data set of the fixture ``tiny_market``."""


@contextmanager
def memory_budget(number: int) -> Iterator[None]:
    """Let evaluation and search work with another budget, in bytes."""
    before, blocks.MEMORY_BUDGET = blocks.MEMORY_BUDGET, number
    try:
        yield
    finally:
        blocks.MEMORY_BUDGET = before


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond ``size`` bytes, as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@contextmanager
def silent_log() -> Iterator[None]:
    """Log nothing: names that are no UTF-8 cannot pass from a process of the tests to the one that reports."""
    logging.disable()
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def randomize_statistics(network: nn.Module) -> None:
    """Give each batch normalization weights and statistics that no layer can ignore."""
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.0)
            for tensor in (module.bias, module.running_mean):
                nn.init.uniform_(tensor, -0.2, 0.2)


def calm_non_local_blocks(network: nn.Module) -> None:
    """Make small the product of three maps, which random weights let explode."""
    for module in network.modules():
        if isinstance(module, NonLocal):
            for convolution in (module.theta, module.phi, module.g):
                nn.init.normal_(convolution.weight, std=1e-6)


class NoWaiting(TorchDispatchMode):
    """Refuses the operations whose result the host must read before it can go on."""

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: object,
        args: tuple = (),
        kwargs: dict | None = None,
    ) -> object:
        name = func.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put", "index_put_", "_index_put_impl_") else ()
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim") or any(
            index is not None and index.dtype == torch.bool for index in indices
        ):
            raise AssertionError(f"{name} waits for the device")
        return func(*args, **(kwargs or {}))


def message_with(caplog: pytest.LogCaptureFixture, *facts: str) -> str:
    """The one message of the log that tells all of these facts, in whatever words."""
    (message,) = [text for text in caplog.messages if all(fact in text for fact in facts)]
    return message


def fit(arguments: Sequence[str], *more: str, method: Method | None = None) -> FitResult:
    """Train by a method (None: the baseline) with the arguments of a script."""
    from engine import methods, run  # Lightning takes seconds, which tests of the lower floors need not pay
    from engine.cli import parse

    return run.fit(method or methods.BASELINE, parse([*arguments, *more]))


def run_arguments(market: Path, folder: Path) -> list[str]:
    """Overrides for a run of seconds that writes below ``folder`` only.

    The network is the smallest of ours: a checkpoint of it takes 2 MB, one of ResNet-18 134 MB.
    """
    return [
        *("MODEL.NAME", "osnet_x0_25", "MODEL.PRETRAINED", "False", "DATASETS.NAMES", str(market)),
        *("INPUT.SIZE_TRAIN", "[32, 16]", "INPUT.SIZE_TEST", "[32, 16]", "INPUT.PADDING", "2"),
        *("DATALOADER.NUM_WORKERS", "0", "DATALOADER.NUM_INSTANCE", "2", "SOLVER.IMS_PER_BATCH", "8"),
        *("SOLVER.MAX_EPOCHS", "2", "SOLVER.WARMUP_EPOCHS", "1", "SOLVER.EVAL_PERIOD", "1"),
        *("SOLVER.CHECKPOINT_PERIOD", "1", "SOLVER.LOG_PERIOD", "1", "TRAINER.ACCELERATOR", "cpu"),
        *("TRAINER.PRECISION", "32-true"),
        *("LOGS_DIR", str(folder / "logs"), "RUNS_DIR", str(folder / "runs")),
        *("OUTPUT_DIR", str(folder / "output")),
    ]
