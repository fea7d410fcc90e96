import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from evaluation.query_expansion import QueryExpansion
from evaluation.ranking import RankingResult
from evaluation.report.html import write_html
from evaluation.report.tables import console_tables, markdown_table
from evaluation.rerank import Reciprocal
from evaluation.results import FIGURES, Entry, EvaluationProtocol, Report, Resolution, VerificationEntry
from evaluation.verification import VerificationCurve

SIZES = (Resolution(1, 256, 128, "online"), Resolution(4, 32, 16, "disk"))


def entry(protocol: EvaluationProtocol, mean: float = 0.12345) -> Entry:
    cmc = {1: mean / 2, 5: 0.95555, 10: 1.0, 20: 1.0, 50: 1.0}
    result = RankingResult(mean, 0.05, cmc, *[np.ones(3)] * 2, *[np.ones(3, int)] * 2, 12659, 11659, 82161)
    return Entry(protocol, result)


def report(*names: str, **more: object) -> Report:
    return Report("market1501", "a/b.pth", tuple(entry(EvaluationProtocol(name, 4, 1)) for name in names), **more)


def on_console(content: Report, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    for table in console_tables(content):
        console.print(table)
    return console.file.getvalue()


def test_the_name_of_a_data_set_is_text_and_no_markup() -> None:
    for name in ("[/x] set", "[red]people", ":smile:"):
        assert f"{name}, percent" in on_console(replace(report("instance"), dataset=name))
    assert r"a\x1b[2J\nb, percent" in on_console(replace(report("instance"), dataset="a\x1b[2J\nb"))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_per_result_in_percent_with_two_decimals() -> None:
    lines = markdown_table(report("instance", "centroid")).splitlines()
    assert cells(lines[0]) == [
        "protocol", "query scale", "gallery scale", "mAP", "mINP", "rank-1", "rank-5", "rank-10", "valid queries",
    ]  # fmt: skip
    assert cells(lines[1]) == ["---"] * 3 + ["---:"] * 6
    figures = ["x4", "x1", "12.35", "5.00", "6.17", "95.56", "100.00", "11659/12659"]
    assert [cells(line) for line in lines[2:]] == [["instance", *figures], ["centroid", *figures]]


def test_a_figure_of_the_table_is_in_the_log_and_in_every_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FIGURES, "rank-20", lambda result: result.cmc[20] / 8)
    content = report("instance")
    write_html(tmp_path / "report.html", content, [])
    texts = [markdown_table(content), on_console(content, 120), (tmp_path / "report.html").read_text()]
    for text in texts:
        assert "rank-20" in text
        assert "12.50" in text
    assert "rank-20 12.50 %" in content.entries[0].summary()
    assert content.entries[0].as_dict()["rank-20"] == 0.125


def test_pixels_of_each_resolution_are_told() -> None:
    content = report("instance", resolutions=SIZES)
    line = "Resolutions: x1 = 256x128 (of the network's input), x4 = 32x16 (files, median)"
    assert line in markdown_table(content).splitlines()
    assert "x1 256x128, x4 32x16 (files)" in on_console(content)


@pytest.mark.parametrize("rerank", [None, Reciprocal()])
@pytest.mark.parametrize("expansion", [None, QueryExpansion(3, 1.0)])
@pytest.mark.parametrize("rule", [False, True])
def test_additions_to_a_protocol_are_named_everywhere(
    rerank: Reciprocal | None, expansion: QueryExpansion | None, rule: bool
) -> None:
    words = ["+QE3"] * bool(expansion) + ["+rerank"] * bool(rerank) + ["(all", "cameras)"] * (not rule)
    label = " ".join(["instance", *words])
    content = Report("a", "b", (entry(EvaluationProtocol("instance", 1, 1, rule, rerank, expansion)),))
    assert cells(markdown_table(content).splitlines()[2])[0] == label
    assert f" {label} " in on_console(content, 140)
    assert content.entries[0].name == f"{label} x1 -> x1"


def test_the_published_procedure_never_stands_without_its_note() -> None:
    assert "wrong camera index" in markdown_table(report("instance", "centroid_ctl2021"))
    assert "depend on the order of the files" in markdown_table(report("instance", "centroid_ctl2021"))
    assert "wrong camera index" not in markdown_table(report("instance", "centroid"))


def test_figures_of_a_handful_of_queries_never_stand_without_a_note() -> None:
    result = RankingResult(1.0, 1.0, {1: 1.0, 5: 1.0, 10: 1.0}, *[np.ones(1)] * 2, *[np.ones(1, int)] * 2, 4, 1, 100)
    text = markdown_table(Report("shop", "a.pth", (Entry(EvaluationProtocol(), result),)))
    assert "only 1 queries count" in text
    assert "by up to 100 points" in text
    assert "queries count" not in markdown_table(report("instance"))


def test_a_name_with_brackets_is_shown_as_it_is() -> None:
    assert "[x] set [/bold], percent" in on_console(Report("[x] set [/bold]", "a.pth", report("instance").entries))


def test_verification_follows_from_the_highest_rate_down() -> None:
    curve = VerificationCurve(
        {1e-3: 0.75, 0.01: 0.91234, 1e-4: 0.5}, {1e-3: 0.3, 0.01: 0.41239, 1e-4: 0.2}, 0.03456, 1234, 5678,
        np.zeros(1), np.zeros(1),
    )  # fmt: skip
    lines = markdown_table(report("instance", verification=VerificationEntry(4, 1, True, 0.01, curve))).splitlines()
    assert [cells(line) for line in lines[-5:-2]] == [
        ["1", "91.23", "0.4124"],
        ["0.1", "75.00", "0.3000"],
        ["0.01", "–", "–"],  # 5,678 pairs cannot measure 1 in 10,000
    ]
    scope = "(queries x4, gallery x1; 1,234 pairs of one person, 5,678 of two)"
    assert lines[-1] == f"Equal error rate: 3.46 % {scope}"


def test_text_cannot_break_the_table() -> None:
    lines = markdown_table(report("a|b\n<i>*c*")).splitlines()
    assert len(lines) == 3
    assert lines[2].startswith(r"| a\|b \<i\>\*c\* | x4 |")


def test_figures_are_never_cut_however_long_a_name() -> None:
    longest = EvaluationProtocol("centroid_ctl2021", 16, 16, False, Reciprocal(), QueryExpansion(5, 1.0))
    text = on_console(Report("shop", "a.pth", (entry(longest, 1.0),)))
    assert "…" not in text
    assert {"x16", "100.00", "5.00", "50.00", "95.56", "11659/12659"} <= set(text.split())
    assert max(map(len, text.splitlines())) <= 80


def test_crossed_resolutions_make_a_matrix() -> None:
    crossed = tuple(entry(EvaluationProtocol("instance", q, g), q / 10 + g / 100) for q in (1, 4) for g in (1, 2, 4))
    lines = [line.split() for line in on_console(Report("shop", "a.pth", crossed)).splitlines()]
    assert ["x4", "41.00", "/", "20.50", "42.00", "/", "21.00", "44.00", "/", "22.00"] in lines
    both = tuple(entry(EvaluationProtocol("instance", scale, scale)) for scale in (1, 2, 4))
    for entries in (both, crossed[:3]):  # each side at its own scales, or one side at one
        assert len(list(console_tables(Report("shop", "a.pth", entries)))) == 1
