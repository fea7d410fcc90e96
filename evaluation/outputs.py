"""Everything a test leaves on disk: figures to read by programs and by people, and pictures to look at."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from evaluation.html_report import Picture, write_html
from evaluation.markdown import markdown_table
from evaluation.pictures import write_pictures
from evaluation.plots import cmc_plot, roc_plot
from evaluation.protocols import Protocol, sides
from evaluation.ranked_lists import LabelledImage, ranked_lists, select_queries
from evaluation.ranking import evaluate_ranking
from evaluation.report import Report
from utils.files import keep_previous, write_text, written_aside

logger = logging.getLogger(__name__)

_NAMES = ("report.json", "report.md", "report.html", "cmc.png", "roc.png", "pictures")


@dataclass(frozen=True)
class PictureSettings:
    """Which ranked lists are drawn.

    Attributes:
        topk: gallery images in a list.
        number: lists in all, a third each of the worst, the median and the best queries.
    """

    topk: int
    number: int


@dataclass(frozen=True)
class Evidence:
    """What the figures of a report were computed from.

    Attributes:
        vectors: scale -> (Q + G, D) embeddings, the queries first.
        query: the query images.
        gallery: the gallery images.
        protocol: instance retrieval at the report's first resolutions: verification and lists go by it.
    """

    vectors: Mapping[int, Tensor]
    query: Sequence[LabelledImage]
    gallery: Sequence[LabelledImage]
    protocol: Protocol


def write_outputs(folder: Path, report: Report, evidence: Evidence, settings: PictureSettings | None) -> None:
    """Write report.json and report.md and, where wanted, the pictures and report.html.

    Results of an earlier test in ``folder`` are moved to ``earlier_1``, ... first.

    Args:
        folder: made where it is absent.
        report: the figures.
        evidence: for the ranked lists.
        settings: which lists are drawn; None = no pictures.
    """
    if kept := keep_previous(folder, _NAMES):
        logger.info("the earlier results are now in %s", kept)
    report.write(folder / "report.json")
    write_text(folder / "report.md", markdown_table(report.as_dict()))
    if settings is not None:
        lists = _draw_lists(folder / "pictures", report, evidence, settings)
        write_html(folder / "report.html", report.as_dict(), lists, plots=_draw_plots(folder, report))
        logger.info("pictures: %s", folder / "report.html")


def write_summary(folder: Path, reports: Sequence[Report]) -> None:
    """Write report.json and report.md of a checkpoint on several data sets, each of which has its own too.

    Args:
        folder: made where it is absent; results of an earlier test are moved as by :func:`write_outputs`.
        reports: one per data set.
    """
    keep_previous(folder, _NAMES)
    merged = {
        "dataset": "+".join(report.dataset for report in reports),
        "checkpoint": reports[0].checkpoint,
        "resolutions": {report.dataset: report.as_dict()["resolutions"] for report in reports},
        "results": [result for report in reports for result in report.as_dict()["results"]],
    }
    write_text(folder / "report.json", json.dumps(merged, indent=2) + "\n")
    tables = (f"## {report.dataset}\n\n{markdown_table(report.as_dict())}" for report in reports)
    write_text(folder / "report.md", "\n".join(tables))


def _draw_lists(folder: Path, report: Report, evidence: Evidence, settings: PictureSettings) -> list[Picture]:
    precision = _instance_precision(report, evidence)
    selection = select_queries(precision, settings.number)
    given = sides(evidence.vectors, evidence.query, evidence.gallery, evidence.protocol)
    lists = ranked_lists(
        given.query,
        given.gallery,
        evidence.query,
        evidence.gallery,
        selection.rows,
        k=settings.topk,
        camera_rule=evidence.protocol.camera_rule,
    )
    files = write_pictures(folder, selection, lists, evidence.query, evidence.gallery, precision)
    return [
        Picture(f"{chosen.group} {chosen.place}", evidence.query[chosen.row].path.name, file.read_bytes())
        for chosen, file in zip(selection, files, strict=True)
    ]


def _instance_precision(report: Report, evidence: Evidence) -> np.ndarray:
    """AP of each query in plain instance retrieval: that of the report, or computed where it has none."""
    first, rule = report.entries[0], evidence.protocol.camera_rule
    plain = first.protocol == "instance" and not first.rerank and not first.expansion
    if plain and first.camera_rule == rule:
        return first.result.average_precision
    given = sides(evidence.vectors, evidence.query, evidence.gallery, evidence.protocol)
    return evaluate_ranking(*given, camera_rule=rule).average_precision


def _draw_plots(folder: Path, report: Report) -> list[Picture]:
    curves = {
        f"{entry.label} x{entry.query_scale} to x{entry.gallery_scale}": entry.result.cmc for entry in report.entries
    }
    plots = [("cmc.png", "CMC", "share of queries with a match among the first k", cmc_plot(curves))]
    if report.verification is not None:
        roc = roc_plot({report.dataset: report.verification.result})
        plots.append(("roc.png", "ROC", "verification over all pairs of query and gallery", roc))
    for name, *_, png in plots:
        with written_aside(folder / name) as aside:
            aside.write_bytes(png)
    return [Picture(title, caption, png) for _, title, caption, png in plots]
