"""Decode every image before training begins, so that a damaged file is named now and not at 3 a.m."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from datasets.sample import ReidSplits, Sample
from utils.errors import ReidError
from utils.images import read_image
from utils.processes import each

_BATCH = 32  # images handed to a process at once: to hand over takes as long as to decode a small one

logger = logging.getLogger(__name__)


def check_files(splits: ReidSplits, on_bad_file: Literal["error", "skip"], *, workers: int) -> ReidSplits:
    """Decode the images of all splits in parallel.

    Args:
        splits: the data set.
        on_bad_file: ``error`` ends with their names; ``skip`` leaves them out with a warning.
        workers: processes.

    Returns:
        The data set, without the bad files.

    Raises:
        ReidError: if there are bad files and ``on_bad_file`` is ``error``, or a split has no good one.
    """
    samples = [*splits.train, *splits.query, *splits.gallery]
    batches = [[sample.path for sample in samples[i : i + _BATCH]] for i in range(0, len(samples), _BATCH)]
    outcomes = each(_faults, batches, workers, "check images", "batch")
    faults = {path: fault for outcome in outcomes for path, fault in outcome.items()}
    if not faults:
        return splits
    shown = "; ".join(list(faults.values())[:3])
    message = f"{len(faults)} of {len(samples)} images of {splits.name} cannot be read: {shown}"
    if on_bad_file == "error":
        raise ReidError(f"{message}; repair or remove them, or set DATASETS.ON_BAD_FILE skip")
    logger.warning("%s; skipped", message)
    kept = replace(
        splits,
        train=_without(splits.train, faults),
        query=_without(splits.query, faults),
        gallery=_without(splits.gallery, faults),
    )
    for part in ("train", "query", "gallery"):
        if getattr(splits, part) and not getattr(kept, part):
            raise ReidError(f"the {part} split of {splits.name} has no readable image left")
    return kept


def _faults(paths: Sequence[Path]) -> dict[Path, str]:
    """What is wrong with those that cannot be read."""
    return {path: fault for path in paths if (fault := _fault(path))}


def _fault(path: Path) -> str:
    try:
        read_image(path)
    except ReidError as error:
        return str(error)
    return ""


def _without(samples: Sequence[Sample], faults: dict[Path, str]) -> tuple[Sample, ...]:
    return tuple(sample for sample in samples if sample.path not in faults)
