"""The report of a test of some weights: it travels in their file, or lies beside it."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.checkpoint import Checkpoint
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


def report_of(weights: Weights, sha256: str) -> Mapping[str, Any]:
    """The report of some weights, empty where there is none.

    It is the one in their file; else ``report.json`` beside it if that is of these weights; else, of a checkpoint in
    the folder of its run, the report of its epoch's validation, which has no thresholds.

    Args:
        weights: see above.
        sha256: of :func:`origin_of`.
    """
    if weights.report:
        return weights.report
    marks = {REPORT: ("sha256", sha256)}
    if isinstance(weights, Checkpoint):
        marks[f"report_{weights.epoch}.json"] = ("checkpoint", f"epoch {weights.epoch}")
    for file, (key, value) in marks.items():
        path = weights.path.with_name(file)
        report = _read_beside(path) if path.is_file() else {}
        if report.get(key) == value:
            return report
    return {}


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
