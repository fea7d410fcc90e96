"""A trained model that tests only read."""

from pathlib import Path

import pytest

from tests.engine.support import ONE_EPOCH
from tests.support import fit, run_arguments


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_market: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of one epoch on `tiny_market`, in the folder of its run."""
    arguments = run_arguments(tiny_market, tmp_path_factory.mktemp("trained"))
    return fit(arguments, *ONE_EPOCH).folder / "0_last.pth"
