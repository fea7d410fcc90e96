"""A checkpoint in use: what it decides, and what may be changed."""

from pathlib import Path

import pytest

from engine import run
from engine.cli import parse
from engine.methods import OCTUPLET
from engine.model import load_model
from engine.settings import Settings
from tests.support import fit
from utils.errors import ReidError


@pytest.fixture
def checkpoint(tiny_arguments: list[str]) -> Path:
    return fit(tiny_arguments, "SOLVER.MAX_EPOCHS", "1", "INPUT.SCALE", "2").folder / "0_last.pth"


def test_the_checkpoints_input_stands_above_a_configuration_file(
    tiny_arguments: list[str], checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    file = {"INPUT.SIZE_TEST": [256, 128], "INPUT.SIZE_TRAIN": [256, 128]}
    given = {"MODEL.PRETRAIN_PATH": str(checkpoint)}
    assert load_model(Settings(file, given)).preprocessing.size == (32, 16)
    assert "INPUT.SIZE_TEST [256, 128] is left out, the checkpoint's [32, 16] counts" in caplog.text
    caplog.clear()
    assert load_model(Settings(file, {**given, "INPUT.SIZE_TEST": [64, 32]})).preprocessing.size == (64, 32)
    assert "INPUT.SIZE_TEST [256" not in caplog.text
    pairs = dict(zip(tiny_arguments[::2], tiny_arguments[1::2], strict=True))
    words = [word for pair in pairs.items() if not pair[0].startswith("INPUT.SIZE") for word in pair]
    settings = parse([*words, "SOLVER.MAX_EPOCHS", "1"])
    tuning = Settings(file, {**settings.overrides, **given, "INPUT.SCALE": 2})
    trained = run.fit(OCTUPLET, tuning)
    assert "48 images of 8 identities at 32x16" in caplog.text
    assert trained.last[0].protocol.query_scale == 2


def test_a_model_trained_at_another_resolution_is_named(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(checkpoint)}))
    assert "the model was trained at x2 (--scale 2 uses it there)" in caplog.text
    assert "images at 32x16, resolution x1" in caplog.text
    caplog.clear()
    load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(checkpoint), "INPUT.SCALE": 2}))
    assert "was trained at" not in caplog.text


def test_a_missing_checkpoint_names_its_neighbours(checkpoint: Path) -> None:
    with pytest.raises(
        ReidError, match=r"must be an existing file, got .*20\.pth; its folder has 0_last\.pth, best\.pth"
    ):
        load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(checkpoint.with_name("20.pth"))}))
