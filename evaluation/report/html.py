"""The report of an evaluation as one HTML file that needs no network: tables, curves, ranked lists."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evaluation.report import tables
from evaluation.results import FIGURES, Entry, Report
from utils.files import write_text

_PALE_BLUE, _DARK_BLUE = (239, 246, 255), (18, 70, 135)  # least and greatest value of a heat map
_SMALLEST_SPAN = 0.05  # of the values between the two; a smaller difference must not look dramatic


@dataclass(frozen=True)
class Picture:
    """One picture of the report.

    Attributes:
        title: plain text above the picture, such as a file name.
        caption: plain text beside the title; may be empty.
        png: the content of a PNG file.
        alt: the words of who cannot see the picture; empty = the title.
    """

    title: str
    caption: str
    png: bytes
    alt: str = ""

    @property
    def source(self) -> str:
        """The picture as an address that holds it."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode('ascii')}"


class _HeatMap(NamedTuple):
    figure: str
    gallery_scales: list[int]
    rows: list[tuple[int, list[tuple[str, str]]]]  # query scale, and text and style of each cell


def write_html(
    path: Path, report: Report, pictures: Sequence[Picture], *, plots: Sequence[Picture] = (), row: str = ""
) -> None:
    """Write the report as one self-contained file, whole or not at all.

    The file holds the data set, the checkpoint, the table of results, heat maps of the main figures for each protocol
    that was measured at several pairs of resolutions, the verification part, plots and ranked lists. A part with
    nothing to show is left out.

    Args:
        path: the file to write.
        report: what was measured.
        pictures: ranked lists, in the order to show.
        plots: curves, shown before the ranked lists.
        row: name of the ranking that the lists show.
    """
    loader = FileSystemLoader(Path(__file__).parent)
    page = Environment(
        autoescape=True, loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = page.get_template("report.html.j2").render(
        report=report, tables=tables, heat_maps=_heat_maps(report), pictures=pictures, plots=plots, row=row
    )
    write_text(path, text.encode("utf-8", "replace").decode())  # file names may hold any byte


def _heat_maps(report: Report) -> dict[str, list[_HeatMap]]:
    """Label of each protocol with more than one pair of scales -> the main figures over them."""
    return {
        label: [_heat_map(name, entries) for name in tables.CROSSED_FIGURES]
        for label, entries in tables.by_scales(report).items()
        if len(entries) > 1
    }


def _heat_map(figure: str, entries: Mapping[tables.Scales, Entry]) -> _HeatMap:
    query_scales, gallery_scales = tables.scales_of_sides(entries)
    values = {scales: FIGURES[figure](entry.result) for scales, entry in entries.items()}
    low, high = min(values.values()), max(values.values())

    def cell(scales: tables.Scales) -> tuple[str, str]:
        value = values.get(scales)
        style = "" if value is None else _style((value - low) / max(high - low, _SMALLEST_SPAN))
        return tables.percent(value), style

    rows = [(query, [cell((query, gallery)) for gallery in gallery_scales]) for query in query_scales]
    return _HeatMap(figure, gallery_scales, rows)


def _style(part: float) -> str:
    """The style of a cell, ``part`` of the way from pale to dark, with text that stands out from it."""
    color = [round(pale + part * (dark - pale)) for pale, dark in zip(_PALE_BLUE, _DARK_BLUE, strict=True)]
    return f"background:rgb({color[0]},{color[1]},{color[2]});color:{'#fff' if part > 0.7 else '#111'}"
