"""Write the results of a test: figures for programs and for people, and pictures."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.protocols import EvaluationData, instance
from evaluation.ranking import RankingResult
from evaluation.report.html import Picture, write_html
from evaluation.report.pictures import write_pictures
from evaluation.report.plots import cmc_plot, roc_plot
from evaluation.report.queries import QUERIES, write_queries
from evaluation.report.ranked_lists import ranked_lists, select_queries
from evaluation.report.tables import markdown_page
from evaluation.results import EvaluationProtocol, Report
from evaluation.retrieval.inputs import Retrieval
from utils.files import keep_previous, remove_parts, write_text, written_aside

logger = logging.getLogger(__name__)

_RANKED_LISTS = "ranked_lists"
_NAMES = (QUERIES, "report.json", "report.md", "report.html", "cmc.png", "roc.png", _RANKED_LISTS)


@dataclass(frozen=True)
class PictureSettings:
    """Which ranked lists are drawn.

    Attributes:
        topk: gallery images in a list.
        number: number of lists, a third each for the worst, the median and the best queries.
    """

    topk: int
    number: int


def write_outputs(
    folder: Path,
    report: Report,
    data: EvaluationData,
    baseline: EvaluationProtocol,
    settings: PictureSettings | None,
) -> None:
    """Write queries.csv, report.json and report.md and, with ``settings``, the pictures and report.html.

    Results of an earlier test in ``folder`` first move to ``earlier_1``, ...

    Args:
        folder: created if it is absent.
        report: the figures.
        data: embeddings and images of the ranked lists.
        baseline: instance retrieval without additions; the lists show its ranking.
        settings: which lists are drawn; None = no pictures.
    """
    remove_parts(folder, _NAMES)
    if earlier := keep_previous(folder, _NAMES):
        logger.info("the earlier results are now in %s", earlier)
    write_queries(folder / QUERIES, report.entries, data.query)  # first: where a report is, its queries are too
    report.write(folder / "report.json")
    write_text(folder / "report.md", markdown_page([report]))
    if settings is not None:
        lists = _draw_lists(folder / _RANKED_LISTS, report, data, baseline, settings)
        write_html(folder / "report.html", report, lists, plots=_draw_plots(folder, report), row=baseline.row)
        logger.info("pictures: %s", folder / "report.html")


def write_summary(folder: Path, reports: Sequence[Report]) -> None:
    """Write report.json and report.md of a checkpoint on several data sets, beside those of each set.

    Args:
        folder: created if it is absent; results of an earlier test move as in :func:`write_outputs`.
        reports: one per data set.
    """
    keep_previous(folder, _NAMES)
    dicts = {report.dataset: report.as_dict() for report in reports}
    summary = {
        "dataset": "+".join(dicts),
        "checkpoint": reports[0].checkpoint,
        **{key: reports[0].as_dict()[key] for key in ("sha256", "settings") if getattr(reports[0], key)},
        "resolutions": {name: content["resolutions"] for name, content in dicts.items()},
        "results": [result for content in dicts.values() for result in content["results"]],
        **({"vectors": dict(reports[0].vectors)} if reports[0].vectors else {}),
    }
    write_text(folder / "report.json", json.dumps(summary, indent=2) + "\n")
    write_text(folder / "report.md", markdown_page(reports))


def _draw_lists(
    folder: Path, report: Report, data: EvaluationData, baseline: EvaluationProtocol, settings: PictureSettings
) -> list[Picture]:
    retrieval = data.retrieval(*baseline.scales)
    result = _baseline_result(report, retrieval, baseline)
    selection = select_queries(result.average_precision, settings.number)
    lists = ranked_lists(retrieval, selection.rows, k=settings.topk, camera_rule=baseline.camera_rule)
    files = write_pictures(folder, selection, lists, data.query, data.gallery, result)
    return [
        Picture(f"{choice.group} {choice.place}", "", file.read_bytes(), alt=data.query[choice.row].path.name)
        for choice, file in zip(selection, files, strict=True)
    ]


def _baseline_result(report: Report, retrieval: Retrieval, baseline: EvaluationProtocol) -> RankingResult:
    """The baseline's ranking, from the report or computed if the report has no such row."""
    results = [entry.result for entry in report.entries if entry.protocol == baseline]
    return results[0] if results else instance(retrieval, baseline)


def _draw_plots(folder: Path, report: Report) -> list[Picture]:
    curves = {entry.name: entry.result.curve() for entry in report.entries}
    plots = [("cmc.png", "CMC", "share of queries with a match among the first k", cmc_plot(curves))]
    if report.verification is not None:
        roc = roc_plot({report.dataset: report.verification.curve})
        plots.append(("roc.png", "ROC", "verification over all pairs of query and gallery", roc))
    for name, *_, png in plots:
        with written_aside(folder / name) as aside:
            aside.write_bytes(png)
    return [Picture(title, caption, png) for _, title, caption, png in plots]
