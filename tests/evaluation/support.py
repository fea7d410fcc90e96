"""Images, and tests of models that never were, for tests of reports and of their comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.ranking import RankingResult
from evaluation.report.queries import QUERIES, write_queries
from evaluation.results import Entry, EvaluationProtocol, Report, Resolution
from evaluation.runs import Run, read_runs

RANKS = (1, 2, 6, 0, 30, 1)
"""Of the matches of two queries of each of three people."""


@dataclass(frozen=True)
class Image:
    path: Path
    person_id: int
    camera_id: int


def images(num_ids: int, per_id: int, folder: str = "/data/toy/query") -> list[Image]:
    """Queries of some people, each from as many cameras."""
    return [
        Image(Path(folder, f"{person:04d}_c{camera}.jpg"), person, camera)
        for person in range(1, num_ids + 1)
        for camera in range(1, per_id + 1)
    ]


def result_of(ranks: Sequence[int], num_gallery: int = 100) -> RankingResult:
    """Queries with one match each, at these ranks; 0 = without a match."""
    first = np.asarray(ranks, dtype=np.int64)
    rates = np.divide(1.0, first, out=np.full(len(first), np.nan), where=first > 0)
    valid = first[first > 0]
    return RankingResult(
        float((1 / valid).mean()),
        float((1 / valid).mean()),
        {k: float((valid <= k).mean()) for k in (1, 5, 10, 20, 50)},
        rates,
        rates,
        first,
        (first > 0).astype(np.int64),
        len(first),
        len(valid),
        num_gallery,
    )


def write_test(
    folder: Path,
    ranks: Sequence[int],
    queries: Sequence[Image],
    settings: Mapping[str, Any] | None = None,
    *,
    protocols: Sequence[EvaluationProtocol] = (EvaluationProtocol(),),
    num_gallery: int = 100,
    **more: object,
) -> Path:
    """Write what test.py leaves of a model that finds each match at a rank; return the report's path."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = tuple(Entry(protocol, result_of(ranks, num_gallery)) for protocol in protocols)
    sizes = (Resolution(1, 256, 128, "online"),)
    report = replace(Report("toy", "best.pth", entries, resolutions=sizes, settings=settings or {}), **more)
    write_queries(folder / QUERIES, entries, queries)
    report.write(folder / "report.json")
    return folder / "report.json"


def run_at(folder: Path, settings: Mapping[str, Any] | None = None, **more: object) -> Run:
    """The run of a test that is written there, of :data:`RANKS` unless others are named."""
    ranks, queries = more.pop("ranks", RANKS), more.pop("queries", images(3, 2))
    (run,) = read_runs(write_test(folder, ranks, queries, settings, **more))
    return run
