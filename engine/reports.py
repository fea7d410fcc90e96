"""The report of a test of some weights: it travels in their file, or lies beside it."""

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from configs.schema import flatten
from engine.callbacks.checkpoints import BEST
from engine.checkpoint import Checkpoint
from engine.preprocessing import KEYS, vectors_of
from evaluation.report.read import REPORT, read_report
from modelling.weights.weights import Weights
from utils.errors import ReidError
from utils.files import sha256_of

logger = logging.getLogger(__name__)

# A training that differs in these alone is the same training: folders, periods, workers, speed, and what a test has.
_NO_DIFFERENCE = (
    "MODEL.RESUME_TRAINING", "MODEL.USE_CENTROIDS", "MODEL.KEEP_CAMID_CENTROIDS", "DATASETS.TEST_NAMES",
    "DATASETS.ROOT_DIR", "DATASETS.CHECK_FILES", "DATASETS.ON_BAD_FILE", "DATASETS.CACHE_DIR",
    "DATALOADER.NUM_WORKERS", "SOLVER.EVAL_PERIOD", "SOLVER.CHECKPOINT_PERIOD", "SOLVER.LOG_PERIOD",
    "TRAINER.ACCELERATOR", "TRAINER.LAYOUT", "TRAINER.COMPILE", "REPRODUCIBLE", "LOGS_DIR", "RUNS_DIR", "OUTPUT_DIR",
)  # fmt: skip
# A test may have set these otherwise than the training.
_OF_USE = (*(key for key in KEYS.values() if key != "INPUT.SCALE"), "MODEL.RETRIEVAL_FEATURE", "TEST.CAMERAS")
_FOLDERS = re.compile(r"[^'\"(\[,]*[/\\](?=[^/\\'\",)\]])")  # above a data set, in one name or several
_RUN_FOLDER = re.compile(r".*?([^/\\]+)[/\\]([^/\\]+)[/\\]([^/\\]+)[/\\]exp\d+[/\\]([^/\\]+)")


def origin_of(weights: Weights) -> str:
    """The SHA-256 of the file that weights come from: an export of a checkpoint is the same model."""
    return weights.origin or sha256_of(weights.path)


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


def settings_of(cfg: CfgNode, weights: Weights) -> dict[str, Any]:
    """What decided the figures of a model of ours, by which :mod:`evaluation.compare` groups the seeds of a setting.

    Args:
        cfg: of the test.
        weights: that it tests.

    Returns:
        Settings by key without folders and whatever else makes no difference; the ``method``, the ``epoch`` (``best``
        of best.pth) and ``training images``, their digest. Empty for weights of other projects.
    """
    if not isinstance(weights, Checkpoint) or not weights.card.dataset:
        return {}
    use = flatten(cfg)
    values = {**weights.config, **{key: use[key] for key in _OF_USE}}
    values = {
        key: value
        for key, value in values.items()
        if key in _OF_USE or not (key in _NO_DIFFERENCE or key.startswith("TEST."))
    }
    if weights.config["MODEL.RESUME_TRAINING"] or weights.origin:  # nobody knows any more from what the run began
        del values["MODEL.PRETRAIN_PATH"]
    else:
        values["MODEL.PRETRAIN_PATH"] = _without_run(values["MODEL.PRETRAIN_PATH"])
    values["DATASETS.NAMES"] = without_folders(values["DATASETS.NAMES"])
    epoch = "best" if weights.path.name == BEST else weights.epoch
    data = {"training images": weights.data} if weights.data else {}
    return {"method": weights.card.method, "epoch": epoch, **data, **values}


def without_folders(names: str) -> str:
    """The value of DATASETS.NAMES, one name or several, without the folders above the data sets."""
    return _FOLDERS.sub("", names)


def _without_run(path: str) -> str:
    """The name of a file of weights; of a run of ours also its data set, backbone and method, but no number."""
    if "://" in path:
        return path
    match = _RUN_FOLDER.fullmatch(path)
    return "/".join(match.groups()) if match else re.split(r"[/\\]", path)[-1]
