"""The report of an evaluation as one HTML file that needs no network: tables, curves, ranked lists."""

import base64
import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.markdown import (
    COLUMNS,
    CTL2021_NOTE,
    NUM_TEXT_COLUMNS,
    VERIFICATION_COLUMNS,
    has_ctl2021,
    percent,
    protocol_name,
    resolutions_text,
    result_cells,
    results_of,
    verification_rows,
    verification_summary,
)
from utils.files import write_text

# The policy forbids everything that is not in the file: even a hole in the escaping could load nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --line: #c8ccd2; --pale: #5a616b; --soft: #f3f5f7; --warn: #fff3cd; }
@media (prefers-color-scheme: dark) {
  :root { --line: #444b55; --pale: #a4adb8; --soft: #23272e; --warn: #4a3c10; }
}
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0; }
dt, figcaption, caption { color: var(--pale); }
dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
.row { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .3rem; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
thead th { background: var(--soft); }
.text { text-align: left; }
.note { background: var(--warn); padding: .5rem .8rem; border-radius: 4px; max-width: 60rem; }
figure { margin: 0 0 1.4rem; break-inside: avoid; }
figure img { display: block; max-width: 100%; height: auto; background: white; border-radius: 4px; }
.lists img { max-width: none; }
figcaption b { color: CanvasText; overflow-wrap: anywhere; }
"""
_PALE_BLUE, _DARK_BLUE = (239, 246, 255), (18, 70, 135)  # least and greatest value of a heat map
_SMALLEST_SPAN = 0.05  # between the two; a smaller difference must not look dramatic


@dataclass(frozen=True)
class Picture:
    """One picture of the report.

    Attributes:
        title: plain text, above the picture; a file name, say.
        caption: plain text, beside the title; may be empty.
        png: the content of a PNG file.
    """

    title: str
    caption: str
    png: bytes


def write_html(
    path: Path, report: Mapping[str, Any], pictures: Sequence[Picture], *, plots: Sequence[Picture] = ()
) -> None:
    """Write the report as one self-contained file, whole or not at all.

    It has the data set, the checkpoint, the table of results, for each protocol measured at several pairs of
    resolutions a heat map of mAP and rank-1 over them, the verification part, plots and ranked lists; a part
    that has nothing to show is left out.

    Args:
        path: the file to write.
        report: the content of ``report.json``, see :meth:`evaluation.report.Report.as_dict`.
        pictures: ranked lists, in the order to show.
        plots: curves, shown before the ranked lists.

    Raises:
        ReidError: if ``report`` holds no results.
    """
    title = f"{report.get('dataset', '')}: evaluation"
    parts = [
        f"<h1>{_text(title)}</h1>",
        _facts(report),
        *_results(report),
        *_heat_maps(report),
        *_verification(report),
        *_figures("Curves", "row", plots),
        *_figures("Ranked lists", "lists", pictures),
    ]
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
    )
    write_text(path, head + "\n".join(parts) + "\n</body>\n</html>\n")


def _facts(report: Mapping[str, Any]) -> str:
    facts = {"data set": report.get("dataset", ""), "checkpoint": report.get("checkpoint", "")}
    if sizes := resolutions_text(report):
        facts["resolutions"] = sizes
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{_text(value)}</dd>' for name, value in facts.items())}</dl>"


def _results(report: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>Results in percent</h2>"
    if has_ctl2021(report):
        yield f'<p class="note">{_text(CTL2021_NOTE)}</p>'
    yield _table(COLUMNS, map(result_cells, results_of(report)), NUM_TEXT_COLUMNS)


def _verification(report: Mapping[str, Any]) -> Iterator[str]:
    if verification := report.get("verification"):
        yield "<h2>Verification</h2>"
        yield "<p>Do two images show one person? Yes, where their cosine distance is below a threshold.</p>"
        yield _table(VERIFICATION_COLUMNS, verification_rows(verification), 0)
        yield f"<p>{_text(verification_summary(verification))}</p>"


def _heat_maps(report: Mapping[str, Any]) -> Iterator[str]:
    """For each protocol with more than one pair of scales, mAP and rank-1 over them."""
    by_protocol: dict[str, dict[tuple[int, int], Mapping[str, Any]]] = {}
    for result in results_of(report):
        scales = result["query_scale"], result["gallery_scale"]
        by_protocol.setdefault(protocol_name(result), {})[scales] = result
    several = {name: results for name, results in by_protocol.items() if len(results) > 1}
    if several:
        yield "<h2>Across resolutions</h2>"
    for name, results in several.items():
        maps = (
            _heat_map("mAP", {scales: result["mAP"] for scales, result in results.items()}),
            _heat_map("rank-1", {scales: result["cmc"]["1"] for scales, result in results.items()}),
        )
        yield f'<h3>{_text(name)}</h3>\n<div class="row">{"".join(maps)}</div>'


def _heat_map(figure: str, values: Mapping[tuple[int, int], float]) -> str:
    query_scales, gallery_scales = (sorted({scales[side] for scales in values}) for side in (0, 1))
    low, high = min(values.values()), max(values.values())
    rows = []
    for query_scale in query_scales:
        cells = ""
        for gallery_scale in gallery_scales:
            value = values.get((query_scale, gallery_scale))
            part = None if value is None else (value - low) / max(high - low, _SMALLEST_SPAN)
            cells += f"<td{_colours(part)}>{percent(value)}</td>"
        rows.append(f'<tr><th scope="row">query x{query_scale}</th>{cells}</tr>')
    heads = "".join(f'<th scope="col">gallery x{scale}</th>' for scale in gallery_scales)
    return (
        f'<div class="wide"><table><caption>{figure} in percent</caption>'
        f"<thead><tr><td></td>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _colours(part: float | None) -> str:
    """The style of a cell, ``part`` of the way from pale to dark, with an ink that stands out from it."""
    if part is None:
        return ""
    mixed = [round(pale + part * (dark - pale)) for pale, dark in zip(_PALE_BLUE, _DARK_BLUE, strict=True)]
    ink = "#fff" if part > 0.7 else "#111"
    return f' style="background:rgb({mixed[0]},{mixed[1]},{mixed[2]});color:{ink}"'


def _figures(title: str, kind: str, pictures: Sequence[Picture]) -> Iterator[str]:
    if not pictures:
        return
    yield f'<h2>{title}</h2>\n<div class="{kind}">'
    for picture in pictures:
        data = base64.b64encode(picture.png).decode("ascii")
        yield (
            f"<figure><figcaption><b>{_text(picture.title)}</b> {_text(picture.caption)}</figcaption>"
            f'<div class="wide"><img alt="{_text(picture.title)}" src="data:image/png;base64,{data}"></div>'
            "</figure>"
        )
    yield "</div>"


def _table(columns: Sequence[str], rows: Iterable[list[str]], num_text: int) -> str:
    kinds = [' class="text"' if number < num_text else "" for number in range(len(columns))]
    heads = "".join(f'<th scope="col"{kind}>{_text(name)}</th>' for name, kind in zip(columns, kinds, strict=True))
    body = ""
    for row in rows:
        cells = "".join(f"<td{kind}>{_text(cell)}</td>" for cell, kind in zip(row, kinds, strict=True))
        body += f"<tr>{cells}</tr>\n"
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _text(value: object) -> str:
    return html.escape(str(value).encode("utf-8", "replace").decode())  # a file name may hold any byte
