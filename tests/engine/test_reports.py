import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.model import load_model
from engine.preprocessing import vectors_of
from engine.reports import origin_of, report_of
from engine.settings import Settings
from engine.weights import read_weights
from evaluation.report.read import read_report
from tests.support import message_with
from utils.errors import ReidError


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_checkpoint, tmp_path / "best.pth"))


def write(path: Path, **content: object) -> dict[str, Any]:
    report = {"dataset": "toy", "results": [], **content}
    path.write_text(json.dumps(report))
    return report


def test_the_report_beside_a_checkpoint(checkpoint: Path) -> None:
    beside, weights = checkpoint.with_name("report.json"), read_weights(checkpoint)
    assert report_of(weights, origin_of(weights), {}) == {}
    report = write(beside, checkpoint="x", sha256=origin_of(weights))
    assert report_of(weights, origin_of(weights), {}) == report
    write(beside, checkpoint="best.pth", sha256="of an earlier state")
    assert report_of(weights, origin_of(weights), {}) == {}
    write(beside, checkpoint="best.pth")  # of an earlier version: nobody knows of which state
    assert report_of(weights, origin_of(weights), {}) == {}


def test_the_validation_of_its_epoch_without_a_test(tiny_checkpoint: Path) -> None:
    weights = read_weights(tiny_checkpoint)
    report = report_of(weights, "", vectors_of(weights.config))
    assert report["checkpoint"] == "epoch 0"
    assert report["results"] == read_report(tiny_checkpoint.with_name("report_0.json"))["results"]
    assert report["vectors"] == vectors_of(weights.config)
    assert report_of(weights, "", {**report["vectors"], "MODEL.RETRIEVAL_FEATURE": "raw"}) == {}


@pytest.mark.parametrize(
    ("key", "value", "original"),
    [
        ("MODEL.RETRIEVAL_FEATURE", "raw", "bn"),
        ("INPUT.SIZE_TEST", [64, 32], [32, 16]),
        ("INPUT.INTERPOLATION", "bicubic", "bilinear"),
        ("INPUT.PIXEL_MEAN", [0.5, 0.5, 0.5], [0.485, 0.456, 0.406]),
        ("INPUT.PIXEL_STD", [0.5, 0.5, 0.5], [0.229, 0.224, 0.225]),
    ],
)
def test_a_report_of_other_vectors_is_left_out(
    key: str, value: object, original: object, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights, beside = read_weights(checkpoint), checkpoint.with_name("report.json")

    def used(**values: object) -> Mapping[str, Any]:
        return load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(checkpoint), **values})).report

    content = write(beside, sha256=origin_of(weights), vectors=vectors_of(weights.config))
    assert used() == used(**{"INPUT.SCALE": 2}) == content
    assert "is left out, for" not in caplog.text
    assert used(**{key: value}) == {}
    assert message_with(
        caplog, "report.json is left out, for it is of other vectors", f"{key} {original} there and {value}"
    )
    content = write(beside, sha256=origin_of(weights), vectors=7)
    assert used() == {}
    assert message_with(caplog, "report.json is left out", "its entry vectors must be a mapping, got int")
    content = write(beside, sha256=origin_of(weights))  # of an earlier version
    assert used(**{key: value}) == content


def test_a_damaged_report_that_nobody_has_asked_for(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint.with_name("report.json").write_text("{")
    assert report_of(read_weights(checkpoint), "", {}) == {}
    assert message_with(caplog, "report.json must be JSON", "test again")


def test_a_report_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(
        ReidError, match=r"a\.json must be a report\.json that test\.py has written, but does not exist"
    ):
        read_report(tmp_path / "a.json")
    for text, rule in (
        ("[]", "has no results"),
        ('{"results": 1}', "has no results"),
        ("[" * 100_000, "must be JSON"),
    ):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(ReidError, match=rule):
            read_report(tmp_path / "a.json")
