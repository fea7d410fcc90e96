"""The results of an evaluation as a file and as a table."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from evaluation.ranking import RankingResult
from utils.atomic import write_text


@dataclass(frozen=True)
class Entry:
    """One evaluation: how it was made, and what came out."""

    protocol: str
    query_scale: int
    gallery_scale: int
    rerank: bool
    result: RankingResult

    def summary(self) -> str:
        """One line for the log."""
        result = self.result
        return (
            f"{self.protocol} x{self.query_scale} -> x{self.gallery_scale}: mAP {100 * result.mAP:.2f} %, "
            f"rank-1 {100 * result.cmc[1]:.2f} %, mINP {100 * result.mINP:.2f} % "
            f"({result.num_valid_queries} of {result.num_queries} queries, {result.num_gallery} images)"
        )

    def as_dict(self) -> dict[str, Any]:
        """The entry as report.json holds it."""
        result = self.result
        return {
            "protocol": self.protocol,
            "query_scale": self.query_scale,
            "gallery_scale": self.gallery_scale,
            "rerank": self.rerank,
            "mAP": result.mAP,
            "mINP": result.mINP,
            "cmc": {str(k): value for k, value in result.cmc.items()},
            "num_queries": result.num_queries,
            "num_valid_queries": result.num_valid_queries,
            "num_gallery": result.num_gallery,
        }


@dataclass(frozen=True)
class Report:
    """All evaluations of one checkpoint on one data set."""

    dataset: str
    checkpoint: str
    entries: tuple[Entry, ...]

    def as_dict(self) -> dict[str, Any]:
        """The report as report.json holds it."""
        return {
            "dataset": self.dataset,
            "checkpoint": self.checkpoint,
            "results": [entry.as_dict() for entry in self.entries],
        }

    def write(self, path: Path) -> None:
        """Write report.json, whole or not at all."""
        write_text(path, json.dumps(self.as_dict(), indent=2) + "\n")


def table(dataset: str, entries: Sequence[Entry]) -> Table:
    """The console table: percentages, one row per entry."""
    columns = ("protocol", "query", "gallery", "mAP", "mINP", "rank-1", "rank-5", "rank-10", "queries")
    grid = Table(title=f"{dataset}: results in percent", box=SIMPLE)
    for column in columns:
        grid.add_column(column, justify="left" if column in columns[:3] else "right", no_wrap=True)
    for entry in entries:
        result = entry.result
        figures = (result.mAP, result.mINP, result.cmc[1], result.cmc[5], result.cmc[10])
        grid.add_row(
            entry.protocol + (" (re-ranked)" if entry.rerank else ""),
            f"x{entry.query_scale}",
            f"x{entry.gallery_scale}",
            *(f"{100 * figure:.2f}" for figure in figures),
            f"{result.num_valid_queries}/{result.num_queries}",
        )
    return grid
