import csv
import io
import re

import pytest
from rich.console import Console

from evaluation.comparison import Comparison, Difference, Figure, Group
from evaluation.report.comparison_tables import FORMATS, console_tables, latex, legend, markdown
from evaluation.runs import PER_QUERY
from evaluation.significance import Interval


def figures(**more: object) -> dict[str, Figure]:
    return {name: Figure(0.1234 + number / 10, Interval(0.1, 0.56), **more) for number, name in enumerate(PER_QUERY)}


def comparison(first: str = "A", dataset: str = "toy", row: str = "instance x1 -> x1") -> Comparison:
    pair = {name: Figure(-0.0123, Interval(-0.03, 0.004), p_value=0.01234) for name in PER_QUERY}
    return Comparison(
        dataset,
        row,
        120,
        40,
        500,
        (Group(first, (), figures(deviation=0.00456)), Group("B", (), figures())),
        (Difference(first, "B", pair),),
        {"SOLVER.BASE_LR": (0.1, 0.2), "EXTRA": (None, "x")},
        ("a note.",),
    )


def on_console(content: Comparison, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO())
    for table in console_tables(content):
        console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_window_of_80_columns_shows_every_figure_whole() -> None:
    lines = [" ".join(line.split()) for line in on_console(comparison()).splitlines()]
    assert "A 0 12.34 ± 0.46 22.34 ± 0.46 32.34 ± 0.46 42.34 ± 0.46 52.34 ± 0.46" in lines
    assert "B 0 12.34 22.34 32.34 42.34 52.34" in lines
    assert lines.count(" ".join(["[10.0, 56.0]"] * 5)) == 2
    assert "B - A mAP -1.23 [-3.00, +0.40] 0.012" in lines
    assert "rank-10 -1.23 [-3.00, +0.40] 0.012" in lines
    assert lines[0] == "toy, instance x1 -> x1, percent"


def test_names_are_text_and_no_markup() -> None:
    assert r"[red]\x1b" in on_console(comparison("[red]\x1b"))


def test_the_legend_names_runs_differences_and_methods() -> None:
    lines = legend(comparison())
    assert "SOLVER.BASE_LR: A 0.1, B 0.2" in lines
    assert "EXTRA: A –, B x" in lines
    assert any(
        "95 % intervals by a bootstrap over 40 people with 120 queries, 500 resamples" in line for line in lines
    )
    assert any(line.startswith("p: paired permutation test") for line in lines)
    assert not any(line.startswith("±") for line in lines)  # no group has several runs
    assert lines[-1] == "a note."


def test_markdown_is_a_table_and_a_list() -> None:
    text = markdown([comparison("a_b|c")])
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows[0] == "|  | runs | mAP | mINP | rank-1 | rank-5 | rank-10 |"
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    assert rows[2].startswith(r"| a_b\|c | 0 | 12.34 ± 0.46 |")
    assert rows[3].startswith(r"|  |  | \[10.0, 56.0\] |")
    assert "- SOLVER.BASE\\_LR" not in text
    assert "- a note." in text


def test_latex_has_the_rules_of_booktabs_and_no_sign_with_a_meaning() -> None:
    text = latex([comparison("50%_of & #1 {x} ~^\\ [y]"), comparison(dataset="a\nb")])
    tables = re.findall(
        r"\\begin\{tabular\}\{lrrrrrr\}\n\\toprule\n(.*?)\\bottomrule\n\\end\{tabular\}", text, re.DOTALL
    )
    assert len(tables) == 2
    for table in tables:
        head, groups, pairs = table.split("\\midrule\n")
        assert [len(part.splitlines()) for part in (head, groups, pairs)] == [1, 4, 3]
        for row in table.replace("\\midrule\n", "").splitlines():
            assert row.endswith(r" \\")
            assert len(re.findall(r"(?<!\\)&", row)) == 6
            assert re.fullmatch(r"(\\[&%$#_{}]|\\[a-z]+(?![a-z])|\\\\|\$(\\pm|-)\$|[^%#~^_$\\])*", row), row
            bare = re.sub(r"\\[{}]", "", row)
            assert bare.count("{") == bare.count("}")
            assert not row.startswith("[")
    assert r"50\%\_of \& \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{} {[}y] & 0 &" in text
    assert r"& 12.34 $\pm$ 0.46 &" in text
    assert r"{\scriptsize [$-$3.00, +0.40]}" in text
    assert "\nB $-$ A &  & $-$1.23 &" in text
    outside = re.sub(r"\\begin.*?\\end\{tabular\}", "", text, flags=re.DOTALL)
    assert all(line.startswith("% ") for line in outside.splitlines() if line)


def test_csv_keeps_every_digit() -> None:
    rows = list(csv.DictReader(io.StringIO(FORMATS[".csv"]([comparison("=A"), comparison(dataset="yard")]))))
    assert len(rows) == 2 * 3 * 5
    first = rows[0]
    assert (first["dataset"], first["row"], first["kind"], first["name"]) == (
        "toy",
        "instance x1 -> x1",
        "group",
        "'=A",
    )
    assert [float(first[name]) for name in ("value", "low", "high", "deviation")] == [0.1234, 0.1, 0.56, 0.00456]
    assert (first["p"], first["queries"], first["identities"], first["resamples"]) == ("", "120", "40", "500")
    pair = rows[10]
    assert (pair["kind"], pair["name"], pair["runs"], pair["figure"]) == ("difference", "B - =A", "", "mAP")
    assert (float(pair["value"]), float(pair["p"]), pair["deviation"]) == (-0.0123, 0.01234, "")
    assert rows[-1]["dataset"] == "yard"


@pytest.mark.parametrize("write", FORMATS.values())
def test_one_model_alone(write: object) -> None:
    content = comparison()
    alone = Comparison(**{**vars(content), "groups": content.groups[:1], "differences": (), "settings": {}})
    assert "p = " not in write([alone])  # type: ignore[operator]
    assert len(list(console_tables(alone))) == 1
