import argparse
import logging
from typing import Any

import pytest

from engine.settings import Settings
from inference.max_distance import AUTO, Sides, distance_option, max_distance
from tests.support import message_with
from utils.errors import ReidError

PLAIN = Sides((1, 1))


def report(**more: object) -> dict[str, Any]:
    verification = {
        "query_scale": 1, "gallery_scale": 1, "flip": False, "fpr": 0.001, "threshold": 0.3,
        "threshold_at_fpr": {"0.01": 0.4, "0.001": 0.3, "0.0001": None},
    }  # fmt: skip
    return {"dataset": "market1501", "results": [], "verification": {**verification, **more}}


def limit(wish: float | str | None, content: dict[str, Any], sides: Sides = PLAIN, **keys: object) -> float | None:
    settings = Settings({}, {name.replace("__", "."): value for name, value in keys.items()})
    return max_distance(wish, settings, "best.pth", content, sides)


def test_the_threshold_of_the_test() -> None:
    assert limit(None, {}) is None
    assert limit(0.5, {}) == 0.5
    assert limit(AUTO, report()) == 0.3
    assert limit(AUTO, report(), TEST__FPR=0.01) == 0.4
    assert limit(AUTO, report(fpr=0.01, threshold=0.4)) == 0.4


def test_a_threshold_of_something_else(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert limit(AUTO, report(gallery_scale=4), Sides((2, 1), centroids=True)) == 0.3
    assert message_with(caplog, "cosine distance up to 0.3000", "0.1 %", "market1501")
    assert message_with(caplog, "at resolution x1 -> x4, and this search is at x2 -> x1")
    assert message_with(caplog, "means of identities")
    assert "8 bits" not in caplog.text
    assert limit(AUTO, {**report(), "searched_in": "8 bits"}) == 0.3
    assert message_with(caplog, "measured in float, and best.pth computes in 8 bits, which moves distances")


def test_thresholds_that_were_not_measured() -> None:
    for content, keys, rule in (
        (
            {},
            {},
            r"needs the threshold that test\.py measures, but none came with best\.pth; test it with OUTPUT_DIR",
        ),
        (report(flip=True), {}, "was measured with TEST.FLIP True; test it without, or give a number"),
        (report(), {"TEST__FPR": 0.0001}, r"has measured \(0\.001, 0\.01\), got 0\.0001; set TEST\.FPR"),
    ):
        with pytest.raises(ReidError, match=rule):
            limit(AUTO, content, **keys)


def test_the_option() -> None:
    assert (distance_option("auto"), distance_option("0.25")) == (AUTO, 0.25)
    for text in ("near", "-1", "nan"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"must be auto, or a number of 0 or more, got '{text}'"):
            distance_option(text)
