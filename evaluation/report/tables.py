"""A report as tables in Markdown and on the console, and the rows that all tables share."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from evaluation.results import FIGURES, Entry, Report, VerificationEntry
from utils.text import printable

NOTES: dict[str, str] = {
    "centroid_ctl2021": (
        "centroid_ctl2021 is the published procedure of 2021 with its wrong camera index: its figures flatter a "
        "model, are not comparable to instance figures, and depend on the order of the files (here: sorted by name)."
    )
}
"""Protocol -> a note that must stand beside its figures."""

NUM_TEXT_COLUMNS = 3  # of the results, before the figures
CROSSED_FIGURES = ("mAP", "rank-1")
"""The figures that a matrix over resolutions shows."""

VERIFICATION_COLUMNS: tuple[str, ...] = (
    "false positive rate [%]",
    "true positive rate [%]",
    "cosine distance threshold",
)

Scales = tuple[int, int]  # of query and gallery

_FEW_QUERIES = 10
_MISSING = "–"
_MARKDOWN_SIGNS = re.compile(r"([\\`*\[\]<>|])")  # an underscore within a word has no meaning
_SOURCES = {"online": "of the network's input", "disk": "files, median"}


def result_columns() -> list[str]:
    """The header of the table of results."""
    return ["protocol", "query scale", "gallery scale", *FIGURES, "valid queries"]


def result_rows(report: Report) -> list[list[str]]:
    """The cells of each entry under :func:`result_columns`; figures in percent."""
    return [
        [
            entry.protocol.label,
            f"x{entry.protocol.query_scale}",
            f"x{entry.protocol.gallery_scale}",
            *(percent(figure(entry.result)) for figure in FIGURES.values()),
            f"{entry.result.num_valid_queries}/{entry.result.num_queries}",
        ]
        for entry in report.entries
    ]


def notes(report: Report) -> list[str]:
    """The notes of all protocols that have a row, and one on figures of a handful of queries."""
    names = {entry.protocol.name for entry in report.entries}
    remarks = [note for name, note in NOTES.items() if name in names]
    queries = min((entry.result.num_valid_queries for entry in report.entries), default=_FEW_QUERIES)
    if queries < _FEW_QUERIES:
        remarks.append(
            f"only {queries} queries count, each of which moves a figure by up to {100 / queries:.0f} points: so few "
            "say next to nothing about a model."
        )
    return remarks


def resolutions_text(report: Report) -> str:
    """The pixels that each scale leaves of an image (height x width); empty if the report does not say."""
    return ", ".join(
        f"x{size.scale} = {size.height}x{size.width} ({_SOURCES[size.source]})" for size in report.resolutions
    )


def by_scales(report: Report) -> dict[str, dict[Scales, Entry]]:
    """The entries of each protocol, by its label, at each pair of resolutions."""
    entries: dict[str, dict[Scales, Entry]] = {}
    for entry in report.entries:
        entries.setdefault(entry.protocol.label, {})[entry.protocol.scales] = entry
    return entries


def scales_of_sides(pairs: Iterable[Scales]) -> tuple[list[int], list[int]]:
    """The resolutions of the queries and those of the gallery, ascending."""
    query_scales, gallery_scales = zip(*pairs, strict=True)
    return sorted(set(query_scales)), sorted(set(gallery_scales))


def verification_cells(verification: VerificationEntry) -> Iterator[list[str]]:
    """The rows under :data:`VERIFICATION_COLUMNS`; a rate that too few pairs measure is a dash."""
    for fpr, tpr, threshold in verification.points():
        yield [f"{100 * fpr:g}", percent(tpr), _MISSING if threshold is None else f"{threshold:.4f}"]


def verification_text(verification: VerificationEntry) -> str:
    """The equal error rate and the pairs behind it."""
    curve = verification.curve
    return (
        f"Equal error rate: {percent(curve.equal_error_rate)} % (queries x{verification.query_scale}, gallery "
        f"x{verification.gallery_scale}; {curve.num_positive:,} pairs of one person, {curve.num_negative:,} of two"
        f"{', +flip' if verification.flip else ''})"
    )


def percent(rate: float | None) -> str:
    """A rate in [0, 1] in percent with two decimals, or a dash."""
    return _MISSING if rate is None else f"{100 * rate:.2f}"


def markdown_table(report: Report) -> str:
    """The results as a GitHub-flavored Markdown table; rates in percent.

    The notes of its protocols follow, and a second table if the report has a verification part.

    Returns:
        Lines that end with a line feed.
    """
    lines = markdown_rows(result_columns(), result_rows(report), NUM_TEXT_COLUMNS)
    if sizes := resolutions_text(report):
        lines += ["", f"Resolutions: {sizes}"]
    for note in notes(report):
        lines += ["", escape(note)]
    if report.verification is not None:
        lines += ["", *markdown_rows(VERIFICATION_COLUMNS, verification_cells(report.verification), 0)]
        lines += ["", verification_text(report.verification)]
    return "\n".join(lines) + "\n"


def markdown_page(reports: Sequence[Report]) -> str:
    """A page on one checkpoint: its data sets, the table of each and, for several, one table of all.

    Returns:
        Lines that end with a line feed.
    """
    lines = [f"# {escape(', '.join(report.dataset for report in reports))}", ""]
    lines += [f"Checkpoint: {escape(reports[0].checkpoint)}", ""]
    if len(reports) == 1:
        return "\n".join(lines) + "\n" + markdown_table(reports[0])
    lines += [*markdown_rows(["data set", *result_columns()], _joined_rows(reports), NUM_TEXT_COLUMNS + 1), ""]
    parts = (f"## {escape(report.dataset)}\n\n{markdown_table(report)}" for report in reports)
    return "\n".join([*lines, *parts])


def markdown_rows(columns: Sequence[str], rows: Iterable[list[str]], num_text: int) -> list[str]:
    """The lines of a table.

    Args:
        columns: its header, as Markdown.
        rows: cells of plain text.
        num_text: columns on the left that are no numbers.
    """
    rule = ["---" if number < num_text else "---:" for number in range(len(columns))]
    body = [[escape(cell) for cell in row] for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in (list(columns), rule, *body)]


def escape(text: str) -> str:
    """Text on one line in which no character has a meaning in Markdown."""
    return _MARKDOWN_SIGNS.sub(r"\\\1", " ".join(text.split()))


def console_summary(reports: Sequence[Report]) -> Table:
    """The rows of several data sets in one table."""
    columns = ["data set", *result_columns()]
    return console_table("all data sets", columns, list(_joined_rows(reports)), NUM_TEXT_COLUMNS + 1)


def console_tables(report: Report) -> Iterator[Table]:
    """One row per evaluation, and for each protocol with several pairs of resolutions a matrix of them."""
    yield _console_results(report)
    for label, entries in by_scales(report).items():
        if len(entries) > max(map(len, scales_of_sides(entries))):
            yield _console_matrix(label, entries)


def _joined_rows(reports: Iterable[Report]) -> Iterator[list[str]]:
    for report in reports:
        yield from ([report.dataset, *cells] for cells in result_rows(report))


def _console_results(report: Report) -> Table:
    table = console_table(report.dataset, result_columns(), result_rows(report), NUM_TEXT_COLUMNS)
    table.caption, table.caption_justify = ", ".join(map(str, report.resolutions)) or None, "left"
    return table


def console_table(
    title: str, columns: Sequence[str], rows: Sequence[list[str]], num_text: int, *, wraps: bool = True
) -> Table:
    """A table of figures in percent.

    Args:
        title: above it.
        columns: its header.
        rows: cells of plain text.
        num_text: columns on the left that are no numbers.
        wraps: whether a narrow window may break cells at their spaces; else only those of the first column.
    """
    title_text = Text(f"{printable(title)}, percent", "table.title")  # text: a name may hold [ and ]
    table = Table(title=title_text, box=SIMPLE, padding=0, title_justify="left")
    for number, column in enumerate(zip(columns, *rows, strict=True)):
        # As narrow as the words allow, except the first: a narrow window wraps it, but never cuts a figure.
        pieces = (piece for text in column for piece in (text.split() if wraps else [text]))
        width = max(map(len, pieces)) if number else None
        table.add_column(column[0], justify="left" if number < num_text else "right", width=width)
    table.columns[0].overflow = "fold"
    for cells in rows:
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _console_matrix(label: str, entries: Mapping[Scales, Entry]) -> Table:
    query_scales, gallery_scales = scales_of_sides(entries)
    table = Table(title=f"{label}: {' / '.join(CROSSED_FIGURES)}, percent", box=SIMPLE, title_justify="left")
    table.add_column("query", no_wrap=True)
    for scale in gallery_scales:
        table.add_column(f"gallery x{scale}", justify="right", no_wrap=True)
    for query_scale in query_scales:
        row = [entries.get((query_scale, scale)) for scale in gallery_scales]
        table.add_row(f"x{query_scale}", *(_crossed_cell(entry) if entry else "" for entry in row))
    return table


def _crossed_cell(entry: Entry) -> str:
    return " / ".join(percent(FIGURES[name](entry.result)) for name in CROSSED_FIGURES)
