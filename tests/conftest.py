"""Fixtures that every test may use."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from datasets.synthetic import SyntheticSpec, draw_dataset

# Small tensors on many test processes: one thread each is fastest.
torch.set_num_threads(1)

REPOSITORY = Path(__file__).resolve().parents[1]
WORKSHOP = Path(os.environ.get("REID_WORKSHOP", REPOSITORY.parent / "shared"))

TINY = SyntheticSpec(train_ids=8, test_ids=6, cameras=2, images_per_camera=3, height=64, width=32)


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Every test draws the same numbers, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    """A script that a test runs sets the level of the log: the next test begins with the usual one."""
    root = logging.getLogger()
    before = root.level
    yield
    root.setLevel(before)


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
    """Overrides for a run of seconds that writes below `tmp_path` only.

    The network is the smallest of ours: a checkpoint of it takes 2 MB, one of ResNet-18 134 MB.
    """
    return [
        *("MODEL.NAME", "osnet_x0_25", "MODEL.PRETRAINED", "False", "DATASETS.NAMES", str(tiny_market)),
        *("INPUT.SIZE_TRAIN", "[32, 16]", "INPUT.SIZE_TEST", "[32, 16]", "INPUT.PADDING", "2"),
        *("DATALOADER.NUM_WORKERS", "0", "DATALOADER.NUM_INSTANCE", "2", "SOLVER.IMS_PER_BATCH", "8"),
        *("SOLVER.MAX_EPOCHS", "2", "SOLVER.WARMUP_EPOCHS", "1", "SOLVER.EVAL_PERIOD", "1"),
        *("SOLVER.CHECKPOINT_PERIOD", "1", "TRAINER.ACCELERATOR", "cpu"),
        *("LOGS_DIR", str(tmp_path / "logs"), "RUNS_DIR", str(tmp_path / "runs")),
        *("OUTPUT_DIR", str(tmp_path / "output")),
    ]
