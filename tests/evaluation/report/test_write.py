import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.protocols import EvaluationData, evaluate, verify
from evaluation.query_expansion import QueryExpansion
from evaluation.report.pictures import write_pictures
from evaluation.report.write import PictureSettings, write_outputs, write_summary
from evaluation.rerank import Reciprocal
from evaluation.results import EvaluationProtocol, Report, Resolution

BASELINE = EvaluationProtocol()


@pytest.fixture
def report(data: EvaluationData) -> Report:
    entries = evaluate(data.vectors, data.query, data.gallery, [BASELINE, EvaluationProtocol("centroid")])
    return Report("toy", "a.pth", entries, verify(data, BASELINE, 0.05), (Resolution(1, 32, 16, "online"),))


@pytest.mark.parametrize(
    ("first", "is_baseline"),
    [
        (BASELINE, True),
        (EvaluationProtocol("centroid"), False),
        (EvaluationProtocol(camera_rule=False), False),
        (EvaluationProtocol(query_scale=4), False),
        (EvaluationProtocol(rerank=Reciprocal(5, 2, 0.3)), False),
        (EvaluationProtocol(expansion=QueryExpansion(2, 1.0)), False),
    ],
)
def test_lists_go_by_plain_instance_retrieval(
    data: EvaluationData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: EvaluationProtocol,
    is_baseline: bool,
) -> None:
    """AP of a list's query is that of the report's row only where this row is plain instance retrieval."""
    precisions: list[np.ndarray] = []

    def spy(*arguments: Any) -> list[Path]:  # noqa: ANN401 (arguments of another)
        precisions.append(arguments[-1].average_precision)
        return write_pictures(*arguments)

    monkeypatch.setattr("evaluation.report.write.write_pictures", spy)
    entry, baseline = evaluate(data.vectors, data.query, data.gallery, [first, BASELINE])
    marked = replace(entry, result=replace(entry.result, average_precision=np.full(len(data.query), 0.777)))
    write_outputs(tmp_path / "out", Report("toy", "a.pth", (marked,)), data, BASELINE, PictureSettings(5, 3))
    result = marked.result if is_baseline else baseline.result
    np.testing.assert_array_equal(precisions[0], result.average_precision)


def test_outputs_are_complete_and_earlier_ones_are_kept(data: EvaluationData, report: Report, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write_outputs(folder, report, data, BASELINE, None)
    assert {path.name for path in folder.iterdir()} == {"queries.csv", "report.json", "report.md"}
    assert json.loads((folder / "report.json").read_text()) == report.as_dict()
    assert (folder / "report.md").read_text().startswith("# toy\n\nCheckpoint: a.pth\n\n| protocol")
    write_outputs(folder, report, data, BASELINE, PictureSettings(5, 6))
    names = {
        "queries.csv",
        "report.json",
        "report.md",
        "report.html",
        "cmc.png",
        "roc.png",
        "ranked_lists",
        "earlier_1",
    }
    assert {path.name for path in folder.iterdir()} == names
    assert {path.name for path in (folder / "earlier_1").iterdir()} == {"queries.csv", "report.json", "report.md"}
    assert len(list((folder / "ranked_lists").iterdir())) == 6
    html = (folder / "report.html").read_text()
    assert html.count("data:image/png;base64,") == 8
    assert "worst 1" in html


def test_a_summary_joins_the_reports_of_several_sets(report: Report, tmp_path: Path) -> None:
    report = replace(report, vectors={"INPUT.SIZE_TEST": [32, 16]})
    reports = [report, replace(report, dataset="other", resolutions=())]
    write_summary(tmp_path, reports)
    summary = json.loads((tmp_path / "report.json").read_text())
    assert (summary["dataset"], summary["checkpoint"]) == ("toy+other", "a.pth")
    assert summary["vectors"] == report.as_dict()["vectors"] == report.vectors
    assert summary["resolutions"] == {"toy": report.as_dict()["resolutions"], "other": []}
    assert [result["dataset"] for result in summary["results"]] == ["toy", "toy", "other", "other"]
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# toy, other\n\nCheckpoint: a.pth\n\n| data set | protocol |")
    joined, *single = text.split("## ")
    rows = [line for line in joined.splitlines() if line.startswith(("| toy | instance", "| other | centroid"))]
    assert [line.partition(" | ")[2] in part for line, part in zip(rows, single, strict=True)] == [True, True]
