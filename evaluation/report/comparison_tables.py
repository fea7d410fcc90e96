"""A comparison as tables: on the console, in Markdown, LaTeX and CSV."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.table import Table

from evaluation.comparison import Comparison, Figure
from evaluation.report.tables import console_table, escape, markdown_rows
from evaluation.runs import PER_QUERY, Run
from evaluation.significance import CONFIDENCE
from utils.text import as_rows, printable

_COLUMNS = ("", "runs", *PER_QUERY)
_NARROW_COLUMNS = ("", "figure", "difference", "interval", "p")
_CSV_COLUMNS = (
    "dataset", "row", "kind", "name", "runs", "figure", "value", "low", "high", "deviation", "p", "queries",
    "identities", "resamples",
)  # fmt: skip
_NUM_TEXT = 1
_LATEX_SIGNS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",  # behind \\ or a rule of booktabs it would begin an option
    "±": r"$\pm$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def console_tables(comparison: Comparison) -> Iterator[Table]:
    """The table of the groups and, for several, that of their differences."""
    yield console_table(_title(comparison), _COLUMNS, list(_group_rows(comparison)), _NUM_TEXT, wraps=False)
    if comparison.differences:
        title = f"{_title(comparison)}, differences"
        yield console_table(title, _NARROW_COLUMNS, list(_narrow_rows(comparison)), _NUM_TEXT + 1, wraps=False)


def legend(comparison: Comparison) -> list[str]:
    """What stands below the tables: which runs they are, in which settings they differ, and what the figures mean."""
    names = [group.name for group in comparison.groups]
    lines = [f"{group.name}: {_run_text(run)}" for group in comparison.groups for run in group.runs]
    for key, values in comparison.settings.items():
        pairs = zip(names, values, strict=True)
        lines.append(f"{key}: " + ", ".join(f"{name} {'–' if value is None else value}" for name, value in pairs))
    lines.append(
        f"In brackets: {100 * CONFIDENCE:.0f} % intervals by a bootstrap over {comparison.num_identities} people "
        f"with {comparison.num_queries} queries, {comparison.resamples} resamples."
    )
    if any(len(group.runs) > 1 for group in comparison.groups):
        lines.append(
            "±: standard deviation over the runs of a setting, which differ in their seed; not in the interval."
        )
    if comparison.differences:
        lines.append(
            "p: paired permutation test, in which the two models exchange their answers to a person's queries."
        )
    return [*lines, *comparison.notes]


def markdown(comparisons: Sequence[Comparison]) -> str:
    """All tables in GitHub-flavored Markdown, each with its legend."""
    lines = list[str]()
    for comparison in comparisons:
        rows = [*_group_rows(comparison), *_difference_rows(comparison)]
        lines += [f"## {escape(_title(comparison))}, percent", "", *markdown_rows(_COLUMNS, rows, _NUM_TEXT), ""]
        lines += [*(f"- {escape(line)}" for line in legend(comparison)), ""]
    return "\n".join(lines)


def latex(comparisons: Sequence[Comparison]) -> str:
    r"""A ``tabular`` of each table, for ``\usepackage{booktabs}``; the legend stands in comments before it."""
    lines = [r"% \usepackage{booktabs}"]
    for comparison in comparisons:
        texts = [f"{_title(comparison)}, percent", *legend(comparison)]
        lines += ["", *(f"% {printable(text)}" for text in texts)]
        lines += [rf"\begin{{tabular}}{{l{'r' * (len(_COLUMNS) - 1)}}}", r"\toprule", _latex_row(_COLUMNS)]
        for rows in (list(_group_rows(comparison)), list(_difference_rows(comparison))):
            lines += [r"\midrule", *map(_latex_row, rows)] if rows else []
        lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def csv_text(comparisons: Sequence[Comparison]) -> str:
    """One line for each figure of each group and difference; rates in [0, 1], which do not lose a digit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for comparison in comparisons:
        rows = [("group", group.name, len(group.runs), group.figures) for group in comparison.groups]
        rows += [("difference", each.name, 0, each.figures) for each in comparison.differences]
        for kind, name, runs, figures in rows:
            for label, figure in figures.items():
                cells: list[object] = [
                    comparison.dataset,
                    comparison.row,
                    kind,
                    name,
                    runs or "",
                    label,
                    figure.value,
                ]
                cells += [*figure.interval, figure.deviation, figure.p_value]
                cells += [comparison.num_queries, comparison.num_identities, comparison.resamples]
                writer.writerows(as_rows([["" if cell is None else str(cell) for cell in cells]]))
    return text.getvalue()


FORMATS: dict[str, Callable[[Sequence[Comparison]], str]] = {".tex": latex, ".md": markdown, ".csv": csv_text}
"""The ending of a file -> its text."""


def _title(comparison: Comparison) -> str:
    return f"{comparison.dataset}, {comparison.row}"


def _run_text(run: Run) -> str:
    seed = "" if run.seed is None else f", seed {run.seed}"
    return f"{run.path}{seed}, of {run.checkpoint}"


def _group_rows(comparison: Comparison) -> Iterator[list[str]]:
    """Two rows for each group: its figures, and their intervals."""

    def value(figure: Figure) -> str:
        deviation = "" if figure.deviation is None else f" ± {100 * figure.deviation:.2f}"
        return f"{100 * figure.value:.2f}{deviation}"

    for group in comparison.groups:
        yield [group.name, str(len(group.runs)), *map(value, group.figures.values())]
        yield ["", "", *(f"[{100 * low:.1f}, {100 * high:.1f}]" for _, (low, high), *_ in group.figures.values())]


def _difference_rows(comparison: Comparison) -> Iterator[list[str]]:
    """Three rows for each pair: the differences, their intervals, and their p-values."""
    for pair in comparison.differences:
        values, brackets, p_values = zip(*map(_difference_cells, pair.figures.values()), strict=True)
        yield [pair.name, "", *values]
        yield ["", "", *brackets]
        yield ["", "", *(f"p = {p_value}" for p_value in p_values)]


def _narrow_rows(comparison: Comparison) -> Iterator[list[str]]:
    """One row for each pair and figure, which a window of 80 columns shows."""
    for pair in comparison.differences:
        for number, (name, figure) in enumerate(pair.figures.items()):
            yield ["" if number else pair.name, name, *_difference_cells(figure)]


def _difference_cells(figure: Figure) -> list[str]:
    """The difference, its interval and its p-value."""
    low, high = (f"{100 * end:+.2f}" for end in figure.interval)
    return [f"{100 * figure.value:+.2f}", f"[{low}, {high}]", f"{figure.p_value:.2g}"]


def _latex_row(cells: Sequence[Any]) -> str:
    return " & ".join(map(_latex_cell, cells)) + r" \\"


def _latex_cell(text: str) -> str:
    if interval := re.fullmatch(r"\[(.*)\]", text):
        return rf"{{\scriptsize [{_minus(interval[1])}]}}"
    return _minus("".join(_LATEX_SIGNS.get(sign, sign) for sign in printable(text)))


def _minus(text: str) -> str:
    """A hyphen that stands alone or before a number as the sign of mathematics."""
    return re.sub(r"(?<!\S)-(?=[\d ])", "$-$", text)
