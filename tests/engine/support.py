"""What tests of whole runs call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback

from engine import run
from engine.builders.trainer import build_trainer
from engine.checkpoint import Checkpoint
from engine.cli import parse
from engine.weights import read_weights
from evaluation.results import Report

ONE_EPOCH = ("SOLVER.MAX_EPOCHS", "1")


def evaluate(arguments: list[str], *more: str) -> Report:
    """Test on one data set with the arguments of the script."""
    (report,) = run.evaluate(parse([*arguments, *more]))
    return report


def resume(path: Path) -> tuple[str, ...]:
    """The arguments that go on with the run of a checkpoint."""
    return ("MODEL.RESUME_TRAINING", "True", "MODEL.PRETRAIN_PATH", str(path))


def checkpoint_at(path: Path) -> Checkpoint:
    """Read a checkpoint of ours."""
    weights = read_weights(path)
    assert isinstance(weights, Checkpoint)
    return weights


def assert_same_weights(first: Path, second: Path) -> None:
    """Two checkpoints hold the same tensors, bit for bit."""
    one, other = checkpoint_at(first).state, checkpoint_at(second).state
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def add_callback(patch: pytest.MonkeyPatch, *more: Callback) -> None:
    """Let the next trainings have more callbacks, after all of ours."""
    patch.setattr(
        run, "build_trainer", lambda cfg, folder, callbacks: build_trainer(cfg, folder, [*callbacks, *more])
    )


def without(arguments: list[str], *keys: str) -> list[str]:
    """The arguments without the keys that begin so, and their values."""
    pairs = zip(arguments[::2], arguments[1::2], strict=True)
    return [word for pair in pairs if not pair[0].startswith(keys) for word in pair]


def report_at(path: Path) -> dict[str, Any]:
    """Read a report.json."""
    report: dict[str, Any] = json.loads(path.read_text())
    return report
