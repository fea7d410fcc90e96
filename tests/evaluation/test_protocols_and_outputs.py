import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from evaluation.centroids import evaluate_centroids, evaluate_centroids_ctl2021
from evaluation.console import tables
from evaluation.expansion import expand_queries
from evaluation.markdown import markdown_table
from evaluation.outputs import Evidence, PictureSettings, write_outputs
from evaluation.pictures import write_pictures
from evaluation.protocols import Expansion, Protocol, evaluate, sides, verify
from evaluation.ranking import evaluate_ranking
from evaluation.report import Report, Verification
from evaluation.rerank import Reciprocal
from evaluation.reranked import evaluate_reranked


@dataclass(frozen=True)
class Image:
    path: Path
    person_id: int
    camera_id: int


@pytest.fixture
def data(tmp_path: Path) -> tuple[dict[int, torch.Tensor], list[Image], list[Image]]:
    rng = np.random.default_rng(0)

    def images(count: int, lowest: int) -> list[Image]:
        made = []
        for number in range(count):
            path = tmp_path / "images" / f"{lowest}_{number}.png"
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), rng.integers(0, 255, (32, 16, 3), dtype=np.uint8))
            made.append(Image(path, int(rng.integers(lowest, 6)), int(rng.integers(1, 4))))
        return made

    query, gallery = images(12, 1), images(40, 0)
    centers = torch.randn(6, 8)
    clean = torch.stack([centers[image.person_id] for image in (*query, *gallery)])
    return {1: clean + torch.randn_like(clean), 4: clean + 2 * torch.randn_like(clean)}, query, gallery


def test_each_protocol_calls_its_function_at_its_scales(data: tuple) -> None:
    vectors, query, gallery = data
    protocols = [
        Protocol(),
        Protocol("centroid"),
        Protocol("centroid_ctl2021"),
        Protocol("instance", 4, 1),
        Protocol("instance", camera_rule=False),
        Protocol("instance", rerank=Reciprocal(5, 2, 0.3)),
        Protocol("instance", expansion=Expansion(2, 1.0), rerank=Reciprocal(5, 2, 0.3)),
    ]
    entries = list(evaluate(vectors, query, gallery, protocols))
    high = sides(vectors, query, gallery, Protocol())
    crossed = high._replace(query=vectors[4][:12])
    expanded = high._replace(query=expand_queries(high.query, high.gallery, k=2, alpha=1.0))
    expected = [
        evaluate_ranking(*high),
        evaluate_centroids(*high),
        evaluate_centroids_ctl2021(*high),
        evaluate_ranking(*crossed),
        evaluate_ranking(*high, camera_rule=False),
        evaluate_reranked(*high, parameters=Reciprocal(5, 2, 0.3)),
        evaluate_reranked(*expanded, parameters=Reciprocal(5, 2, 0.3)),
    ]
    assert [entry.result.mAP for entry in entries] == [result.mAP for result in expected]
    assert len({entry.result.mAP for entry in entries}) == len(entries)
    assert [entry.label for entry in entries[-2:]] == [
        "instance +rerank",
        "instance +QE2 +rerank",
    ]
    (table,) = tables(Report("x", "a.pth", tuple(entries)))  # no matrix: one row each crosses resolutions
    assert "centroid_ctl2021" in list(table.columns[0].cells)
    assert entries[-1].as_dict()["query_expansion"] == 2
    assert entries[-1].as_dict()["rerank"] is True


def make_report(data: tuple) -> tuple[Report, Evidence]:
    vectors, query, gallery = data
    protocols = [Protocol(), Protocol("centroid")]
    result = verify(vectors, query, gallery, protocols[0], 0.05)
    entries = tuple(evaluate(vectors, query, gallery, protocols))
    report = Report("toy", "a.pth", entries, Verification(1, 1, True, 0.05, result))
    return report, Evidence(vectors, query, gallery, protocols[0])


def test_verification_answers_which_distance_means_the_same_person(data: tuple) -> None:
    report, _ = make_report(data)
    assert report.verification is not None
    record = report.as_dict()["verification"]
    assert record["threshold"] == record["threshold_at_fpr"]["0.05"]
    assert set(record["tpr_at_fpr"]) == {"0.05", "0.01", "0.001", "0.0001"}
    assert f"cosine distance below {record['threshold']:.4f}" in report.verification.summary()
    assert "5 % false ones" in report.verification.summary()


def test_rates_that_the_pairs_cannot_measure_have_no_figure(data: tuple) -> None:
    report, _ = make_report(data)
    verification = report.verification
    assert verification is not None
    assert verification.result.num_negative < 1000
    record = replace(verification, fpr=1e-4).as_dict()
    assert (record["threshold"], record["threshold_at_fpr"]["0.0001"], record["tpr_at_fpr"]["0.0001"]) == (None,) * 3
    assert record["threshold_at_fpr"]["0.05"] is not None
    assert "| 0.01 | – | – |" in markdown_table({**report.as_dict(), "verification": record})
    lowest = 1 / verification.result.num_negative
    assert replace(verification, fpr=1e-4).summary().endswith(f"of 0.0001; set TEST.FPR to {lowest:.2g} or more")
    one_pair = replace(verification, fpr=1e-4, result=replace(verification.result, num_negative=1))
    assert one_pair.summary().endswith("a false positive rate of 0.0001")  # no rate that TEST.FPR takes would do


@pytest.mark.parametrize(
    ("first", "is_plain"),
    [
        (Protocol(), True),
        (Protocol("centroid"), False),
        (Protocol(camera_rule=False), False),
        (Protocol(rerank=Reciprocal(5, 2, 0.3)), False),
        (Protocol(expansion=Expansion(2, 1.0)), False),
    ],
)
def test_lists_go_by_plain_instance_retrieval(
    data: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: Protocol, is_plain: bool
) -> None:
    """AP of a list's query is that of the report's first row only where this row is plain instance retrieval."""
    vectors, query, gallery = data
    seen: list[np.ndarray] = []

    def recorded(*given: Any) -> list[Path]:  # noqa: ANN401 (arguments of another)
        seen.append(given[-1])
        return write_pictures(*given)

    monkeypatch.setattr("evaluation.outputs.write_pictures", recorded)
    (entry,) = evaluate(vectors, query, gallery, [first])
    marked = replace(entry, result=replace(entry.result, average_precision=np.full(len(query), 0.777)))
    evidence = Evidence(vectors, query, gallery, Protocol())
    write_outputs(tmp_path / "out", Report("toy", "a.pth", (marked,)), evidence, PictureSettings(5, 3))
    expected = marked.result if is_plain else evaluate_ranking(*sides(vectors, query, gallery, Protocol()))
    np.testing.assert_array_equal(seen[0], expected.average_precision)


def test_outputs_are_complete_and_earlier_ones_are_kept(data: tuple, tmp_path: Path) -> None:
    report, evidence = make_report(data)
    folder = tmp_path / "out"
    write_outputs(folder, report, evidence, None)
    assert {path.name for path in folder.iterdir()} == {"report.json", "report.md"}
    assert json.loads((folder / "report.json").read_text()) == report.as_dict()
    write_outputs(folder, report, evidence, PictureSettings(5, 6))
    names = {"report.json", "report.md", "report.html", "cmc.png", "roc.png", "pictures", "earlier_1"}
    assert {path.name for path in folder.iterdir()} == names
    assert {path.name for path in (folder / "earlier_1").iterdir()} == {"report.json", "report.md"}
    assert len(list((folder / "pictures").iterdir())) == 6
    html = (folder / "report.html").read_text()
    assert html.count("data:image/png;base64,") == 8
