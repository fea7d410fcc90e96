"""Rows of a report, how each was measured, and the report as report.json holds it."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from evaluation.query_expansion import QueryExpansion
from evaluation.ranking import RankingResult
from evaluation.rerank import Reciprocal
from evaluation.verification import VerificationCurve
from utils.files import write_text

FIGURES: dict[str, Callable[[RankingResult], float]] = {
    "mAP": lambda result: result.mAP,
    "mINP": lambda result: result.mINP,
    "rank-1": lambda result: result.cmc[1],
    "rank-5": lambda result: result.cmc[5],
    "rank-10": lambda result: result.cmc[10],
}
"""Rates in [0, 1] by name; the log, the console, TensorBoard and all reports show each of them."""

_HIGHEST_FPR = 0.5  # the highest value of TEST.FPR


@dataclass(frozen=True)
class EvaluationProtocol:
    """What one row of a report measures.

    Attributes:
        name: one of :data:`evaluation.protocols.PROTOCOLS`.
        query_scale: low-resolution scale of the queries.
        gallery_scale: low-resolution scale of the gallery.
        camera_rule: ignore gallery images of the query's own identity and camera.
        rerank: re-rank by k-reciprocal neighbors (``instance`` only); None = no.
        expansion: expand the queries first (``instance`` only); None = no.
        flip: a vector is the mean of those of the image and of its mirror image.
    """

    name: str = "instance"
    query_scale: int = 1
    gallery_scale: int = 1
    camera_rule: bool = True
    rerank: Reciprocal | None = None
    expansion: QueryExpansion | None = None
    flip: bool = False

    @property
    def scales(self) -> tuple[int, int]:
        """The resolutions at which the images must be embedded."""
        return self.query_scale, self.gallery_scale

    @property
    def label(self) -> str:
        """The name with its additions, and a mark if the camera rule is off, as every table shows it."""
        additions = (
            " +flip" if self.flip else "",
            f" +QE{self.expansion.k}" if self.expansion else "",
            " +rerank" if self.rerank else "",
        )
        return self.name + "".join(additions) + ("" if self.camera_rule else " (all cameras)")

    @property
    def row(self) -> str:
        """The label with the resolutions of query and gallery."""
        return f"{self.label} x{self.query_scale} -> x{self.gallery_scale}"

    def as_dict(self) -> dict[str, Any]:
        """The protocol as report.json holds it."""
        reranking = asdict(self.rerank) if self.rerank else {}
        return {
            "protocol": self.name,
            "query_scale": self.query_scale,
            "gallery_scale": self.gallery_scale,
            "rerank": self.rerank is not None,
            "query_expansion": self.expansion.k if self.expansion else 0,
            "camera_rule": self.camera_rule,
            "flip": self.flip,
            "parameters": {**reranking, **({"alpha": self.expansion.alpha} if self.expansion else {})},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EvaluationProtocol":
        """From what :meth:`as_dict` gives.

        Raises:
            ReidError, KeyError, TypeError, ValueError: if it is damaged.
        """
        reranking = dict(values["parameters"])
        k, alpha = int(values["query_expansion"]), float(reranking.pop("alpha", 0.0))
        return cls(
            str(values["protocol"]),
            int(values["query_scale"]),
            int(values["gallery_scale"]),
            bool(values["camera_rule"]),
            Reciprocal(**reranking) if values["rerank"] else None,
            QueryExpansion(k, alpha) if k else None,
            bool(values["flip"]),
        )


@dataclass(frozen=True)
class Entry:
    """One row of a report: how it was measured, and the result."""

    protocol: EvaluationProtocol
    result: RankingResult

    @property
    def name(self) -> str:
        """As :attr:`EvaluationProtocol.row`."""
        return self.protocol.row

    def summary(self) -> str:
        """One line for the log."""
        result = self.result
        figures = ", ".join(f"{name} {100 * figure(result):.2f} %" for name, figure in FIGURES.items())
        return (
            f"{self.name}: {figures} ({result.num_valid_queries} of {result.num_queries} queries, "
            f"gallery of {result.num_gallery})"
        )

    def as_dict(self) -> dict[str, Any]:
        """The entry as report.json holds it."""
        result = self.result
        return {
            **self.protocol.as_dict(),
            **{name: figure(result) for name, figure in FIGURES.items()},
            "cmc": {str(k): value for k, value in result.cmc.items()},
            "num_queries": result.num_queries,
            "num_valid_queries": result.num_valid_queries,
            "num_gallery": result.num_gallery,
        }


class OperatingPoint(NamedTuple):
    """A false positive rate and the decision at that rate; None = too few pairs to measure it.

    Attributes:
        fpr: the false positive rate.
        tpr: true positive rate.
        threshold: cosine distance.
    """

    fpr: float
    tpr: float | None
    threshold: float | None


@dataclass(frozen=True)
class VerificationEntry:
    """The answer to "which distance means the same person", and how it was measured.

    Attributes:
        query_scale: low-resolution scale of the queries.
        gallery_scale: low-resolution scale of the gallery.
        camera_rule: only pairs of different cameras count.
        fpr: the user's false positive rate.
        curve: rates and thresholds, that of ``fpr`` among them.
        flip: a vector is the mean of those of the image and of its mirror image, so distances of others differ.
    """

    query_scale: int
    gallery_scale: int
    camera_rule: bool
    fpr: float
    curve: VerificationCurve
    flip: bool = False

    def points(self) -> Iterator[OperatingPoint]:
        """What was measured at each false positive rate, the highest first."""
        for fpr in sorted(self.curve.tpr_at_fpr, reverse=True):
            if fpr * self.curve.num_negative >= 1:  # enough pairs for one false positive
                yield OperatingPoint(fpr, self.curve.tpr_at_fpr[fpr], self.curve.thresholds[fpr])
            else:
                yield OperatingPoint(fpr, None, None)

    def summary(self) -> str:
        """One line for the console."""
        curve = self.curve
        _, tpr, threshold = self._chosen_point()
        if tpr is None:
            lowest = 1 / curve.num_negative
            remedy = f"; set TEST.FPR to {lowest:.2g} or more" if lowest <= _HIGHEST_FPR else ""
            return (
                f"same person: {curve.num_negative} pairs of different people are too few to measure a false "
                f"positive rate of {self.fpr:g}{remedy}"
            )
        flip = " (+flip)" if self.flip else ""
        return (
            f"same person{flip}: cosine distance below {threshold:.4f} finds {100 * tpr:.2f} % of the true pairs at "
            f"{100 * self.fpr:g} % false ones (equal error rate {100 * curve.equal_error_rate:.2f} %)"
        )

    def as_dict(self) -> dict[str, Any]:
        """As report.json holds it: rates in [0, 1], thresholds as cosine distances, None = too few pairs."""
        points = list(self.points())
        return {
            "query_scale": self.query_scale,
            "gallery_scale": self.gallery_scale,
            "camera_rule": self.camera_rule,
            "flip": self.flip,
            "fpr": self.fpr,
            "threshold": self._chosen_point().threshold,
            "threshold_at_fpr": {f"{point.fpr:g}": point.threshold for point in points},
            "tpr_at_fpr": {f"{point.fpr:g}": point.tpr for point in points},
            "equal_error_rate": self.curve.equal_error_rate,
            "num_positive": self.curve.num_positive,
            "num_negative": self.curve.num_negative,
        }

    def _chosen_point(self) -> OperatingPoint:
        return next(point for point in self.points() if point.fpr == self.fpr)


class Resolution(NamedTuple):
    """How many pixels of an image carry information at a scale.

    Attributes:
        scale: 1 = full.
        height: in pixels; for files the median.
        width: in pixels; for files the median.
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
    """All evaluations of one checkpoint on one data set.

    Attributes:
        dataset: its name.
        checkpoint: its path.
        entries: one per row.
        verification: which distance means the same person.
        resolutions: of the images.
        sha256: of the checkpoint's file.
        settings: what trained it, by key; empty = unknown. Equal but for the seed = seeds of one setting.
        vectors: what decided which vectors are compared, by key; empty = unknown.
    """

    dataset: str
    checkpoint: str
    entries: tuple[Entry, ...]
    verification: VerificationEntry | None = None
    resolutions: tuple[Resolution, ...] = ()
    sha256: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    vectors: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The report as report.json holds it."""
        report: dict[str, Any] = {
            "dataset": self.dataset,
            "checkpoint": self.checkpoint,
            **({"sha256": self.sha256} if self.sha256 else {}),
            **({"settings": dict(self.settings)} if self.settings else {}),
            "resolutions": [resolution._asdict() for resolution in self.resolutions],
            "results": [{"dataset": self.dataset, **entry.as_dict()} for entry in self.entries],
        }
        if self.verification is not None:
            report["verification"] = self.verification.as_dict()
        if self.vectors:
            report["vectors"] = dict(self.vectors)
        return report

    def write(self, path: Path) -> None:
        """Write report.json, whole or not at all."""
        write_text(path, json.dumps(self.as_dict(), indent=2) + "\n")
