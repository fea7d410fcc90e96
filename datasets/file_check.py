"""Decode every image before training begins, so that a damaged file is named now and not at 3 a.m."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from datasets.sample import ReidSplits, Sample
from utils.errors import ReidError
from utils.images import read_image

logger = logging.getLogger(__name__)


def check_files(splits: ReidSplits, on_bad_file: Literal["error", "skip"], *, workers: int) -> ReidSplits:
    """Decode the images of all splits in parallel.

    Args:
        splits: the data set.
        on_bad_file: ``error`` ends with their names; ``skip`` leaves them out with a warning.
        workers: threads (decoding releases the interpreter's lock).

    Returns:
        The data set, without the bad files.

    Raises:
        ReidError: if there are bad files and ``on_bad_file`` is ``error``, or a split has no good one.
    """
    samples = [*splits.train, *splits.query, *splits.gallery]
    with ThreadPoolExecutor(max(1, workers)) as pool:
        outcomes = tqdm(pool.map(_fault, samples), total=len(samples), desc="check images", unit="image")
        faults = {sample.path: fault for sample, fault in zip(samples, outcomes, strict=True) if fault}
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


def _fault(sample: Sample) -> str:
    try:
        read_image(sample.path)
    except ReidError as error:
        return str(error)
    return ""


def _without(samples: Sequence[Sample], faults: dict[Path, str]) -> tuple[Sample, ...]:
    return tuple(sample for sample in samples if sample.path not in faults)
