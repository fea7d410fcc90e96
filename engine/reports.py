"""The report of a test of some weights: it travels in their file, or lies beside it."""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.checkpoint import Checkpoint
from engine.preprocessing import vectors_of
from modelling.weights.weights import Weights
from utils.errors import ReidError, one_line
from utils.files import sha256_of

logger = logging.getLogger(__name__)

REPORT = "report.json"


def origin_of(weights: Weights) -> str:
    """The SHA-256 of the file that weights come from: an export of a checkpoint is the same model."""
    return weights.origin or sha256_of(weights.path)


def read_report(path: Path) -> dict[str, Any]:
    """What test.py has written.

    Raises:
        ReidError: if the file is missing, damaged or no report.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ReidError(f"{path} must be a {REPORT} that test.py has written, but does not exist") from error
    except (ValueError, RecursionError) as error:
        raise ReidError(f"{path} must be JSON, but cannot be read ({one_line(error)[:200]}); test again") from error
    if not isinstance(report, dict) or not isinstance(report.get("results"), list):
        raise ReidError(f"{path} must be a {REPORT} that test.py has written, but has no results; test again")
    return report


def report_of(weights: Weights, sha256: str, vectors: Mapping[str, Any]) -> Mapping[str, Any]:
    """The report of some weights as they are used, empty where there is none.

    It is the one in their file; else ``report.json`` beside it if that is of these weights; else, of a checkpoint in
    the folder of its run, the report of its epoch's validation, which has no thresholds. The log names a report that
    is left out because it is of other vectors.

    Args:
        weights: see above.
        sha256: of :func:`origin_of`.
        vectors: of :func:`engine.preprocessing.vectors_of`, as the weights are used.
    """
    for path, report in _reports_of(weights, sha256):
        if not (differences := differences_in_vectors(report, vectors)):
            return report
        logger.warning("the report of a test in %s is left out, for it is of other vectors: %s", path, differences)
    return {}


def _reports_of(weights: Weights, sha256: str) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """The reports of some weights, whatever their vectors, with their places; that of a test comes first."""
    if weights.report:
        yield weights.path, weights.report
        return
    path = weights.path.with_name(REPORT)
    if path.is_file() and (report := _read_beside(path)).get("sha256") == sha256:
        yield path, report
    if isinstance(weights, Checkpoint):
        path = weights.path.with_name(f"report_{weights.epoch}.json")
        if path.is_file() and (report := _read_beside(path)).get("checkpoint") == f"epoch {weights.epoch}":
            yield path, {**report, "vectors": vectors_of(weights.config)}


def differences_in_vectors(report: Mapping[str, Any], vectors: Mapping[str, Any]) -> str:
    """In words, in which settings the vectors of a report differ from others; empty where they do not.

    Nobody knows it of a report of an earlier version: it counts as one of these vectors.

    Args:
        report: as report.json has it.
        vectors: of :func:`engine.preprocessing.vectors_of`.
    """
    others = report.get("vectors", vectors)
    if not isinstance(others, Mapping):
        return f"its entry vectors must be a mapping, got {type(others).__name__}"
    rows = ((key, others.get(key), value) for key, value in vectors.items())
    return ", ".join(f"{key} {other} there and {value} here" for key, other, value in rows if other != value)


def _read_beside(path: Path) -> dict[str, Any]:
    """A report that nobody has asked for: a damaged one is no error."""
    try:
        return read_report(path)
    except ReidError as error:
        logger.warning("%s", error)
        return {}


def without_paths(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report to hand on: with the name of the checkpoint, not the folder in which it lay."""
    names = {"checkpoint": Path(str(report["checkpoint"])).name} if "checkpoint" in report else {}
    return {**report, **names}
