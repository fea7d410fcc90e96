from typing import Any

import numpy as np
import pytest

from evaluation.markdown import markdown_table
from evaluation.ranking import RankingResult
from evaluation.report import Entry, Report
from utils.errors import ReidError


def report(*protocols: str, rerank: bool = False) -> dict[str, Any]:
    cmc = {1: 0.9, 5: 0.95555, 10: 1.0, 20: 1.0, 50: 1.0}
    result = RankingResult(0.12345, 0.05, cmc, np.ones(3), np.ones(3, int), 12, 10, 100)
    entries = tuple(Entry(protocol, 4, 1, rerank, result) for protocol in protocols)
    return Report("market1501", "a/b.pth", entries).as_dict()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_per_result_in_percent_with_two_decimals() -> None:
    lines = markdown_table(report("instance", "centroid")).splitlines()
    assert cells(lines[0]) == [
        "protocol", "query scale", "gallery scale", "mAP", "mINP", "rank-1", "rank-5", "rank-10", "valid queries",
    ]  # fmt: skip
    assert cells(lines[1]) == ["---"] * 3 + ["---:"] * 6
    figures = ["x4", "x1", "12.35", "5.00", "90.00", "95.56", "100.00", "10/12"]
    assert [cells(line) for line in lines[2:]] == [["instance", *figures], ["centroid", *figures]]


def test_pixels_of_each_resolution_are_told() -> None:
    given = report("instance")
    given["resolutions"] = [
        {"scale": 1, "height": 256, "width": 128, "source": "online"},
        {"scale": 4, "height": 32, "width": 16, "source": "disk"},
    ]
    expected = "Resolutions: x1 = 256x128 (of the network's input), x4 = 32x16 (files, median)"
    assert expected in markdown_table(given).splitlines()


def test_what_was_done_on_top_of_a_protocol_is_named_as_in_the_console() -> None:
    result = report("instance", rerank=True)
    result["results"][0]["query_expansion"] = 5
    assert cells(markdown_table(result).splitlines()[2])[0] == "instance +QE5 +rerank"


@pytest.mark.parametrize("rerank", [False, True])
@pytest.mark.parametrize("expansion", [0, 3])
@pytest.mark.parametrize("rule", [False, True])
def test_labels_equal_those_of_the_console(rerank: bool, expansion: int, rule: bool) -> None:
    result = RankingResult(0.5, 0.5, dict.fromkeys((1, 5, 10), 0.5), np.ones(3), np.ones(3, int), 3, 3, 9)
    entry = Entry("instance", 1, 1, rerank, result, expansion, rule)
    table = markdown_table(Report("a", "b", (entry,)).as_dict())
    words = ["+QE3"] * bool(expansion) + ["+rerank"] * rerank + ["(all", "cameras)"] * (not rule)
    assert cells(table.splitlines()[2])[0] == entry.label == " ".join(["instance", *words])


def test_the_published_procedure_never_stands_without_its_note() -> None:
    assert "wrong camera index" in markdown_table(report("instance", "centroid_ctl2021"))
    assert "wrong camera index" not in markdown_table(report("instance", "centroid"))


def test_verification_follows_from_the_highest_rate_down() -> None:
    rates = {"0.0001": 0.5, "0.01": 0.91234, "0.001": 0.75}
    verification = {
        "tpr_at_fpr": rates,
        "threshold_at_fpr": {"0.0001": 0.2, "0.01": 0.41239, "0.001": 0.3},
        "equal_error_rate": 0.03456,
    }
    lines = markdown_table({**report("instance"), "verification": verification}).splitlines()
    assert [cells(line) for line in lines[-5:-2]] == [
        ["1", "91.23", "0.4124"],
        ["0.1", "75.00", "0.3000"],
        ["0.01", "50.00", "0.2000"],
    ]
    assert lines[-1] == "Equal error rate: 3.46 %"
    scope = {"query_scale": 4, "gallery_scale": 1, "num_positive": 1234, "num_negative": 5678}
    text = markdown_table({**report("instance"), "verification": {**verification, **scope}})
    assert text.endswith(" % (queries x4, gallery x1; 1,234 pairs of one person, 5,678 of two)\n")


def test_absent_figures_are_dashes() -> None:
    result = {"protocol": "instance", "query_scale": 1, "gallery_scale": 1, "mAP": 0.5, "cmc": {"1": 0.25}}
    row = cells(markdown_table({"results": [result]}).splitlines()[2])
    assert row == ["instance", "x1", "x1", "50.00", "–", "25.00", "–", "–", "–/–"]


def test_text_cannot_break_the_table() -> None:
    lines = markdown_table(report("a|b\n<i>*c*")).splitlines()
    assert len(lines) == 3
    assert lines[2].startswith(r"| a\|b \<i\>\*c\* | x4 |")


@pytest.mark.parametrize("empty", [{"dataset": "x"}, {"dataset": "x", "results": []}])
def test_a_report_without_results_is_refused(empty: dict[str, Any]) -> None:
    with pytest.raises(ReidError, match=r"report must hold a list of results, got the keys \['dataset'"):
        markdown_table(empty)
