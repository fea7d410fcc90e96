"""A report on the console: a table of all evaluations, and a matrix over resolutions."""

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE
from rich.table import Table

from evaluation.report import Entry, Report

_FIGURE_WIDTH = 6  # characters of "100.00": in a narrow window a name is wrapped, a figure never cut


def tables(report: Report) -> Iterator[Table]:
    """One row per evaluation and, where resolutions were crossed, a matrix of them for each protocol."""
    yield _results(report)
    for label in dict.fromkeys(entry.label for entry in report.entries):
        entries = [entry for entry in report.entries if entry.label == label]
        sides = {entry.query_scale for entry in entries}, {entry.gallery_scale for entry in entries}
        if len(entries) > max(map(len, sides)):
            yield _matrix(label, entries)


def _results(report: Report) -> Table:
    title = f"{report.dataset}, percent; scale: query/gallery"
    caption = ", ".join(map(str, report.resolutions)) or None
    grid = Table(
        title=title, caption=caption, box=SIMPLE, title_justify="left", caption_justify="left", collapse_padding=True
    )
    grid.add_column("protocol", overflow="fold", min_width=len("protocol"))
    grid.add_column("scale", no_wrap=True)
    for name in ("mAP", "mINP", "R-1", "R-5", "R-10", "queries"):
        grid.add_column(name, justify="right", no_wrap=True, min_width=_FIGURE_WIDTH)
    for entry in report.entries:
        result = entry.result
        figures = (result.mAP, result.mINP, result.cmc[1], result.cmc[5], result.cmc[10])
        grid.add_row(
            entry.label,
            f"x{entry.query_scale}/x{entry.gallery_scale}",
            *(f"{100 * figure:.2f}" for figure in figures),
            f"{result.num_valid_queries}/{result.num_queries}",
        )
    return grid


def _matrix(label: str, entries: Sequence[Entry]) -> Table:
    found = {(entry.query_scale, entry.gallery_scale): entry.result for entry in entries}
    grid = Table(title=f"{label}: mAP / rank-1, percent", box=SIMPLE, title_justify="left")
    grid.add_column("query", no_wrap=True)
    gallery_scales = sorted({scale for _, scale in found})
    for scale in gallery_scales:
        grid.add_column(f"gallery x{scale}", justify="right", no_wrap=True)
    for query_scale in sorted({scale for scale, _ in found}):
        results = [found.get((query_scale, scale)) for scale in gallery_scales]
        cells = (f"{100 * one.mAP:.2f} / {100 * one.cmc[1]:.2f}" if one else "" for one in results)
        grid.add_row(f"x{query_scale}", *cells)
    return grid
