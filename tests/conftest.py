"""Fixtures that every test may use."""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from absl.logging import get_absl_handler  # of tensorboard

from datasets.synthetic import draw_dataset
from tests.support import TINY, run_arguments
from utils.signals import STOP_SIGNALS

# Small tensors on many test processes: one thread each is fastest, and one that does not spin.
torch.set_num_threads(1)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# pymilvus closes the handlers of other libraries when it is imported, and this one then closes its stream: not pytest's.
get_absl_handler().python_handler.stream = sys.__stderr__

# A deadline measures the machine, not the code: a busy one made a test fail.
hypothesis.settings.register_profile("steady", deadline=None)
hypothesis.settings.load_profile("steady")

REPOSITORY = Path(__file__).resolve().parents[1]
WORKSHOP = Path(os.environ.get("REID_WORKSHOP", REPOSITORY.parent / "shared"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of tests/faults, which pytest knows only if they are added here."""
    trials = "seeds of each random trial in tests/faults; 0 (default): a short form"
    parser.addoption("--trials", type=int, default=0, metavar="N", help=trials)
    table = "write the outcomes of the trials, by kind, as JSON"
    parser.addoption("--trials-table", metavar="FILE", help=table)


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Every test draws the same numbers, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _subnormals() -> Iterator[None]:
    """A script that a test runs flushes subnormal numbers, which the next test may need."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads what another one or the user has measured."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def _log() -> Iterator[None]:
    """A script that a test runs sets up the log: the next test begins with the one of pytest."""
    loggers = [logging.getLogger(name) for name in (None, "pytorch_lightning")]
    before = [(logger.level, logger.handlers[:]) for logger in loggers]
    yield
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """A script that a test runs answers Ctrl-C and SIGTERM for the rest of its process, which goes on here."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def tiny_market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn data set in Market layout: 8 + 6 identities, 2 cameras, 64 x 32 pixels."""
    return draw_dataset(tmp_path_factory.mktemp("data") / "tiny", TINY)


@pytest.fixture(scope="session")
def workshop() -> Path:
    """The folder of real development data; tests that ask for it carry `realdata`."""
    if not (WORKSHOP / "data").is_dir():
        pytest.skip(f"no development data in {WORKSHOP} (set REID_WORKSHOP to its folder)")
    return WORKSHOP


@pytest.fixture
def tiny_arguments(tiny_market: Path, tmp_path: Path) -> list[str]:
    """Overrides for a run of seconds that writes below `tmp_path` only."""
    return run_arguments(tiny_market, tmp_path)
