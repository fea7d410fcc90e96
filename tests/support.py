"""What tests of several packages call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from utils import blocks

if TYPE_CHECKING:
    from engine.methods import Method
    from engine.run import FitResult


@contextmanager
def memory_budget(number: int) -> Iterator[None]:
    """Let evaluation and search work with another budget, in bytes."""
    before, blocks.MEMORY_BUDGET = blocks.MEMORY_BUDGET, number
    try:
        yield
    finally:
        blocks.MEMORY_BUDGET = before


def fit(arguments: Sequence[str], *more: str, method: Method | None = None) -> FitResult:
    """Train by a method (None: the baseline) with the arguments of a script."""
    from engine import methods, run  # Lightning takes seconds, which tests of the lower floors need not pay
    from engine.cli import parse

    return run.fit(method or methods.BASELINE, parse([*arguments, *more]))
