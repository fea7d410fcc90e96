from typing import Any

import pytest

from evaluation.protocols import EvaluationData, verify
from evaluation.results import EvaluationProtocol, Report
from evaluation.thresholds import Thresholds
from utils.errors import ReidError


def report(data: EvaluationData, fpr: float, **more: int) -> dict[str, Any]:
    return Report("toy", "a.pth", (), verify(data, EvaluationProtocol(**more), fpr)).as_dict()


def test_the_thresholds_of_a_test(data: EvaluationData) -> None:
    content = report(data, 0.05, query_scale=4)
    thresholds = Thresholds.of_report(content)
    assert thresholds is not None
    assert thresholds.at() == thresholds.at(0.05) == content["verification"]["threshold"]
    assert (thresholds.dataset, thresholds.scales, thresholds.flip) == ("toy", (4, 1), False)
    assert Thresholds.of_report({"dataset": "toy", "results": []}) is None


def test_a_rate_that_json_rounds(data: EvaluationData) -> None:
    rate = 0.0500000123
    thresholds = Thresholds.of_report(report(data, rate))
    assert thresholds is not None
    assert thresholds.at() == thresholds.at(rate)


def test_a_rate_that_was_not_measured(data: EvaluationData) -> None:
    thresholds = Thresholds.of_report(report(data, 0.05))
    assert thresholds is not None
    for rate in (0.02, 1e-4):  # another one, and one for which the pairs are too few
        with pytest.raises(ReidError, match=rf"test on toy has measured \(.*0\.05\), got {rate:g}; set TEST.FPR"):
            thresholds.at(rate)


@pytest.mark.parametrize(
    "change",
    [
        {"threshold_at_fpr": []},
        {"threshold_at_fpr": {"x": 1.0}},
        {"threshold_at_fpr": {"0.01": "near"}},
        {"threshold_at_fpr": {"0.01": 2.5}},
        {"threshold": float("nan")},
        {"fpr": None},
    ],
)
def test_damaged_thresholds(data: EvaluationData, change: dict[str, Any]) -> None:
    content = report(data, 0.05)
    with pytest.raises(ReidError, match=r"the thresholds of a report must be those that test\.py wrote"):
        Thresholds.of_report({**content, "verification": {**content["verification"], **change}})
    with pytest.raises(ReidError, match="damaged"):
        Thresholds.of_report({**content, "verification": 7})
