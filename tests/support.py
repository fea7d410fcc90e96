"""What tests of several packages call."""

from collections.abc import Iterator
from contextlib import contextmanager

from utils import blocks


@contextmanager
def memory_budget(number: int) -> Iterator[None]:
    """Let evaluation and search work with another budget, in bytes."""
    before, blocks.MEMORY_BUDGET = blocks.MEMORY_BUDGET, number
    try:
        yield
    finally:
        blocks.MEMORY_BUDGET = before
