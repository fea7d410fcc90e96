"""The results of an evaluation as a file and as a table."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from evaluation.ranking import RankingResult
from evaluation.verification import VerificationResult
from utils.files import write_text

_HIGHEST_FPR = 0.5  # that TEST.FPR takes


@dataclass(frozen=True)
class Entry:
    """One evaluation: how it was made, and what came out."""

    protocol: str
    query_scale: int
    gallery_scale: int
    rerank: bool
    result: RankingResult
    expansion: int = 0  # gallery images that joined each query; 0 = no query expansion
    camera_rule: bool = True
    parameters: Mapping[str, float] = field(default_factory=dict)  # of re-ranking and expansion

    @property
    def label(self) -> str:
        """The protocol with what was done on top of it, and without the camera rule if so."""
        return protocol_label(self.protocol, self.expansion, self.rerank, self.camera_rule)

    @property
    def name(self) -> str:
        """The label with the resolutions of query and gallery."""
        return f"{self.label} x{self.query_scale} -> x{self.gallery_scale}"

    def summary(self) -> str:
        """One line for the log."""
        result = self.result
        return (
            f"{self.name}: mAP {100 * result.mAP:.2f} %, "
            f"rank-1 {100 * result.cmc[1]:.2f} %, mINP {100 * result.mINP:.2f} % "
            f"({result.num_valid_queries} of {result.num_queries} queries, gallery of {result.num_gallery})"
        )

    def as_dict(self) -> dict[str, Any]:
        """The entry as report.json holds it."""
        result = self.result
        return {
            "protocol": self.protocol,
            "query_scale": self.query_scale,
            "gallery_scale": self.gallery_scale,
            "rerank": self.rerank,
            "query_expansion": self.expansion,
            "camera_rule": self.camera_rule,
            "parameters": dict(self.parameters),
            "mAP": result.mAP,
            "mINP": result.mINP,
            "cmc": {str(k): value for k, value in result.cmc.items()},
            "num_queries": result.num_queries,
            "num_valid_queries": result.num_valid_queries,
            "num_gallery": result.num_gallery,
        }


def protocol_label(protocol: str, expansion: int, rerank: bool, camera_rule: bool) -> str:
    """A protocol with what was done on top of it, as every table names it."""
    added = (f" +QE{expansion}" if expansion else "", " +rerank" if rerank else "")
    return protocol + "".join(added) + ("" if camera_rule else " (all cameras)")


@dataclass(frozen=True)
class Verification:
    """The answer to "which distance means the same person", and how it was measured.

    Attributes:
        query_scale: low-resolution scale of the queries.
        gallery_scale: low-resolution scale of the gallery.
        camera_rule: only pairs of different cameras count.
        fpr: the false positive rate that the user chose.
        result: rates and thresholds.
    """

    query_scale: int
    gallery_scale: int
    camera_rule: bool
    fpr: float
    result: VerificationResult

    def summary(self) -> str:
        """One line for the console."""
        result = self.result
        if not self._measurable(self.fpr):
            lowest = 1 / result.num_negative
            remedy = f"; set TEST.FPR to {lowest:.2g} or more" if lowest <= _HIGHEST_FPR else ""
            return (
                f"same person: {result.num_negative} pairs of different people are too few to measure a false "
                f"positive rate of {self.fpr:g}{remedy}"
            )
        return (
            f"same person: cosine distance below {result.threshold(self.fpr):.4f} finds "
            f"{100 * result.tpr_at_fpr[self.fpr]:.2f} % of the true pairs at {100 * self.fpr:g} % false ones "
            f"(equal error rate {100 * result.equal_error_rate:.2f} %)"
        )

    def _measurable(self, fpr: float) -> bool:
        """Whether there are pairs enough for one false positive at that rate."""
        return fpr * self.result.num_negative >= 1

    def as_dict(self) -> dict[str, Any]:
        """As report.json holds it; rates in [0, 1], thresholds are cosine distances; None = too few pairs."""
        result = self.result
        thresholds = {rate: value for rate, value in result.thresholds.items() if self._measurable(rate)}
        return {
            "query_scale": self.query_scale,
            "gallery_scale": self.gallery_scale,
            "camera_rule": self.camera_rule,
            "fpr": self.fpr,
            "threshold": thresholds.get(self.fpr),
            "threshold_at_fpr": {f"{rate:g}": thresholds.get(rate) for rate in result.thresholds},
            "tpr_at_fpr": {
                f"{rate:g}": value if rate in thresholds else None for rate, value in result.tpr_at_fpr.items()
            },
            "equal_error_rate": result.equal_error_rate,
            "num_positive": result.num_positive,
            "num_negative": result.num_negative,
        }


class Resolution(NamedTuple):
    """What a scale leaves of an image: the pixels that carry information.

    Attributes:
        scale: 1 = full.
        height: pixels; of files their median.
        width: pixels; of files their median.
        source: ``online``, made from the network's input, or ``disk``, files of makelr.py.
    """

    scale: int
    height: int
    width: int
    source: Literal["online", "disk"]

    def __str__(self) -> str:
        """For the log."""
        files = " (files)" if self.source == "disk" else ""
        return f"x{self.scale} {self.height}x{self.width}{files}"


@dataclass(frozen=True)
class Report:
    """All evaluations of one checkpoint on one data set."""

    dataset: str
    checkpoint: str
    entries: tuple[Entry, ...]
    verification: Verification | None = None
    resolutions: tuple[Resolution, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The report as report.json holds it."""
        report: dict[str, Any] = {
            "dataset": self.dataset,
            "checkpoint": self.checkpoint,
            "resolutions": [resolution._asdict() for resolution in self.resolutions],
            "results": [{"dataset": self.dataset, **entry.as_dict()} for entry in self.entries],
        }
        if self.verification is not None:
            report["verification"] = self.verification.as_dict()
        return report

    def write(self, path: Path) -> None:
        """Write report.json, whole or not at all."""
        write_text(path, json.dumps(self.as_dict(), indent=2) + "\n")
