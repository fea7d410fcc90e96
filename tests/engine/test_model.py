"""A checkpoint in use: what it decides, and what may be changed."""

import hashlib
import logging
from pathlib import Path

import pytest

from engine import run
from engine.cli import parse
from engine.methods import OCTUPLET
from engine.model import TrainedModel, load_model
from engine.settings import Settings
from tests.engine.support import ONE_EPOCH, checkpoint_at, without
from tests.support import fit
from utils.errors import ReidError

SIZES = {"INPUT.SIZE_TEST": [256, 128], "INPUT.SIZE_TRAIN": [256, 128]}


def model_of(path: Path, file: dict[str, object] | None = None, **values: object) -> TrainedModel:
    overrides = {f"INPUT.{name}": value for name, value in values.items()}
    return load_model(Settings(file or {}, {"MODEL.PRETRAIN_PATH": str(path), **overrides}))


def test_a_models_images_are_those_it_was_trained_on(tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = model_of(tiny_checkpoint, SIZES)
    assert model.preprocessing.size == (32, 16)
    assert "INPUT.SIZE_TEST [256, 128] is left out, the checkpoint's [32, 16] counts" in caplog.text
    assert not model.network.training
    assert (model.path, model.sha256) == (tiny_checkpoint, hashlib.sha256(tiny_checkpoint.read_bytes()).hexdigest())
    caplog.clear()
    assert model_of(tiny_checkpoint, SIZES, SIZE_TEST=[64, 32]).preprocessing.size == (64, 32)
    assert "INPUT.SIZE_TEST [256" not in caplog.text


def test_the_log_says_which_images_and_which_vector_count(
    tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        model_of(tiny_checkpoint)
    images = "32 x 16 pixels, bilinear, mean 0.485 0.456 0.406, deviation 0.229 0.224 0.225"
    assert f"input: {images}; retrieval: 128 components after the batch normalization" in caplog.text


def test_fine_tuning_trains_on_the_images_of_its_model(tiny_arguments: list[str], tiny_checkpoint: Path) -> None:
    words = parse([*without(tiny_arguments, "INPUT.SIZE"), *ONE_EPOCH, "--scale", "2"])
    tuning = Settings(SIZES, {**words.overrides, "MODEL.PRETRAIN_PATH": str(tiny_checkpoint)})
    checkpoint = checkpoint_at(run.fit(OCTUPLET, tuning).folder / "0_last.pth")
    assert checkpoint.config["INPUT.SIZE_TRAIN"] == checkpoint.config["INPUT.SIZE_TEST"] == [32, 16]


def test_a_model_trained_at_another_resolution_is_named(
    tiny_arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = fit(tiny_arguments, *ONE_EPOCH, "INPUT.SCALE", "2").folder / "0_last.pth"
    assert model_of(checkpoint).preprocessing.scale == 1
    assert "the model was trained at x2 (--scale 2 uses it there)" in caplog.text
    caplog.clear()
    assert model_of(checkpoint, SCALE=2).preprocessing.scale == 2
    assert not caplog.text


def test_inference_says_that_it_reads_no_low_resolution_files(
    tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = {"DATASETS.LR_SOURCE": "disk"}
    model_of(tiny_checkpoint, disk)
    assert "LR_SOURCE" not in caplog.text
    assert model_of(tiny_checkpoint, disk, SCALE=2).preprocessing.scale == 2
    assert "DATASETS.LR_SOURCE disk is for training and test; here x2 lowers the resolution" in caplog.text


def test_a_missing_checkpoint_names_its_neighbors(tiny_checkpoint: Path) -> None:
    with pytest.raises(
        ReidError, match=r"must be an existing file, got .*20\.pth; its folder has 0_last\.pth, best\.pth"
    ):
        model_of(tiny_checkpoint.with_name("20.pth"))
