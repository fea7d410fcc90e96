"""What several tests of whole runs compare."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.checkpoint import Checkpoint
from engine.weights import read_weights


@pytest.fixture
def assert_same_weights() -> Callable[[Path, Path], None]:
    """Two checkpoints hold the same tensors, bit for bit."""

    def compare(left: Path, right: Path) -> None:
        one, other = read_weights(left), read_weights(right)
        assert isinstance(one, Checkpoint)
        assert isinstance(other, Checkpoint)
        assert one.state.keys() == other.state.keys()
        assert [name for name in one.state if not torch.equal(one.state[name], other.state[name])] == []

    return compare
