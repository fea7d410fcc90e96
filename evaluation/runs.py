"""Runs to compare: a row of a report with the results of each query, which runs are alike, and which are seeds."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.report.queries import QUERIES, QueryResults, read_queries
from evaluation.report.read import REPORT, read_report
from evaluation.results import EvaluationProtocol, Resolution
from utils.errors import ReidError, did_you_mean, one_line

SEED = "REPRODUCIBLE_SEED"
"""The setting in which the runs of one group differ."""

PER_QUERY: dict[str, Callable[[QueryResults], np.ndarray]] = {
    "mAP": lambda queries: queries.average_precision,
    "mINP": lambda queries: queries.inverse_negative_penalty,
    "rank-1": lambda queries: queries.first_match_rank <= 1,
    "rank-5": lambda queries: queries.first_match_rank <= 5,
    "rank-10": lambda queries: queries.first_match_rank <= 10,
}
"""Figure -> the value of each query with a match, whose mean is the figure."""

_SAME = 1e-9  # two means of the same values


@dataclass(frozen=True, eq=False)
class Run:
    """One row of the report of one model.

    Attributes:
        path: of the report.
        dataset: on which the model was tested.
        protocol: of the row.
        checkpoint: path of the weights, as the report has it.
        settings: what decided the figures, by key; empty = unknown.
        pixels: of the images at each resolution, in words.
        num_gallery: items of the gallery.
        queries: results of each query.
    """

    path: Path
    dataset: str
    protocol: EvaluationProtocol
    checkpoint: str
    settings: Mapping[str, Any]
    pixels: str
    num_gallery: int
    queries: QueryResults

    @property
    def seed(self) -> object:
        """Of the training; None = unknown."""
        return self.settings.get(SEED)

    def values(self) -> np.ndarray:
        """(V, S) float64, for the queries with a match the columns of :data:`PER_QUERY`."""
        columns = [figure(self.queries).astype(np.float64) for figure in PER_QUERY.values()]
        return np.stack(columns, axis=1)[self.queries.num_matches > 0]

    def identities(self) -> np.ndarray:
        """(V,) int64, the people of the queries with a match."""
        identities: np.ndarray = self.queries.identities[self.queries.num_matches > 0]
        return identities


def read_runs(path: Path, row: str = "") -> list[Run]:
    """The runs of a report: one, or one for each data set.

    Args:
        path: of report.json, or its folder.
        row: ``instance x4 -> x1``; empty = the first row of instance retrieval without additions.

    Raises:
        ReidError: if the report or its queries.csv is missing or damaged, if they are not of the same test, or if the
            report has no such row.
    """
    path = path / REPORT if path.is_dir() else path
    report = read_report(path)
    try:
        names = {str(result.get("dataset", report["dataset"])): None for result in report["results"]}
        if len(names) > 1:  # those of each set lie in a folder
            return [_read_run(file := path.parent / name / REPORT, read_report(file), row) for name in names]
        return [_read_run(path, report, row)]
    except ReidError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReidError(
            f"{path} is damaged or of an earlier version ({type(error).__name__}: {one_line(error)[:100]}); test the "
            "weights again"
        ) from error


def _read_run(path: Path, report: Mapping[str, Any], row: str) -> Run:
    """The run of a report on one data set."""
    protocols = [EvaluationProtocol.from_dict(result) for result in report["results"]]
    number = _chosen_row(path, protocols, row)
    result, queries = report["results"][number], read_queries(path.with_name(QUERIES), protocols[number])
    precisions = queries.average_precision[queries.num_matches > 0]
    if result["num_queries"] != len(queries.paths) or not abs(precisions.mean() - result["mAP"]) <= _SAME:
        raise ReidError(f"{path} and the {QUERIES} beside it must be of one test, but differ; test the weights again")
    return Run(
        path,
        str(report["dataset"]),
        protocols[number],
        str(report["checkpoint"]),
        dict(report.get("settings", {})),
        ", ".join(str(Resolution(**size)) for size in report["resolutions"]),
        int(result["num_gallery"]),
        queries,
    )


def _chosen_row(path: Path, protocols: Sequence[EvaluationProtocol], row: str) -> int:
    """The place of a row.

    Raises:
        ReidError: if there is none.
    """
    rows = [protocol.row for protocol in protocols]
    if row:
        words = [_words(name) for name in rows]
        if _words(row) in words:
            return words.index(_words(row))
    else:
        plain = [
            number
            for number, protocol in enumerate(protocols)
            if protocol.name == "instance" and not protocol.rerank and not protocol.expansion
        ]
        if plain:
            return plain[0]
    wish = repr(row) if row else "none of plain instance retrieval"
    raise ReidError(f"--row must be a row of {path} ({'; '.join(rows)}), got {wish}{did_you_mean(row, rows)}")


def _words(row: str) -> list[str]:
    """A row as it is compared: a shell takes ``>`` for something else, so people leave the arrow out."""
    return row.replace("->", " ").split()


def group_runs(runs: Sequence[Run], ignore: Collection[str] = ()) -> tuple[list[list[Run]], list[str]]:
    """Put together the runs whose settings differ in the seed alone.

    Runs of unknown settings stand alone. So do those of equal settings if two of them have one seed: they are no
    seeds of a setting, but a repetition, or something that settings do not tell.

    Args:
        runs: of one protocol.
        ignore: settings that shall not tell groups apart.

    Returns:
        The groups in the order of their first runs, and notes for the reader.

    Raises:
        ReidError: if no run has a setting of ``ignore``.
    """
    known = {key for run in runs for key in run.settings}
    if absent := [key for key in ignore if key not in known]:
        raise ReidError(
            f"--ignore must be a setting that a report has, got {absent[0]}{did_you_mean(absent[0], known)}; "
            "its entry settings lists them"
        )
    by_setting: dict[object, list[Run]] = {}
    for number, run in enumerate(runs):
        values = [f"{key}={run.settings[key]!r}" for key in sorted(run.settings) if key not in (SEED, *ignore)]
        key = (run.pixels, *values) if run.settings else number
        by_setting.setdefault(key, []).append(run)
    groups, notes = list[list[Run]](), list[str]()
    for group in by_setting.values():
        if len({repr(run.seed) for run in group}) == len(group):
            groups.append(group)
        else:
            groups += [[run] for run in group]
            notes.append(
                f"{', '.join(str(run.path) for run in group)} have the same settings, and two of them the same seed: "
                "they are not taken for seeds of one setting."
            )
    if any(not run.settings for run in runs) and len(runs) > 1:
        notes.append("reports without settings (of other weights, or of an earlier version) stand alone.")
    if ignore:
        notes.append(f"not compared, and perhaps different within a group: {', '.join(ignore)}.")
    return sorted(groups, key=lambda group: runs.index(group[0])), notes


def differing_settings(runs: Sequence[Run], ignore: Collection[str] = ()) -> dict[str, tuple[Any, ...]]:
    """The settings that are not alike in all runs of known settings, each with its values; None = not set.

    Args:
        runs: one of each group.
        ignore: settings that are left out.
    """
    rows = [{**run.settings, "pixels": run.pixels} if run.settings else {} for run in runs]
    keys = dict.fromkeys(key for row in rows for key in row if key not in (SEED, *ignore))
    values = {key: tuple(row.get(key) for row in rows) for key in keys}
    return {
        key: row
        for key, row in values.items()
        if len({repr(value) for value, known in zip(row, rows, strict=True) if known}) > 1
    }


def check_alike(runs: Iterable[Run]) -> None:
    """Refuse runs that were not tested alike.

    Raises:
        ReidError: if data set, protocol, queries or gallery differ; the message names the reports and the difference.
    """
    first, *others = runs
    keys = first.queries.keys()
    for run in others:
        if difference := _difference(first, run, keys):
            raise ReidError(
                f"figures that stand beside one another must be of one data set and protocol, but {first.path} and "
                f"{run.path} differ in {difference}"
            )


def _difference(first: Run, run: Run, keys: list[tuple[str, int, int]]) -> str:
    """In words, what makes two runs unlike; empty if they are alike."""
    if first.dataset != run.dataset:
        return f"the data set ({first.dataset}, {run.dataset}); compare each set by itself"
    if first.protocol != run.protocol:
        both = f"{first.protocol.row}, {run.protocol.row}"
        if first.protocol.row == run.protocol.row:
            both = f"{first.protocol.as_dict()['parameters']}, {run.protocol.as_dict()['parameters']}"
        return f"the protocol ({both}); test both alike, or choose a row that both have by --row"
    if run.queries.keys() != keys:
        numbers = f"{len(keys)} and {len(run.queries.paths)}"
        return f"their queries ({numbers}, by file, identity and camera); test both on the same images"
    matches = first.queries.num_matches, run.queries.num_matches
    if first.num_gallery != run.num_gallery or not np.array_equal(*matches):
        return "the gallery (its size, or the matches of a query); test both on the same images"
    return ""
