"""Whole folders of low-resolution images: where they go, what must hold before, and their making."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from datasets.low_resolution import MARK, Job, Plan, Target, low_resolution_sibling, make_images, make_plan, read_size
from utils.errors import ReidError
from utils.files import write_text
from utils.processes import each
from utils.resolution import SMALLEST_SIDE, low_resolution_size

logger = logging.getLogger(__name__)


def targets_of(data_dir: Path, scales: Sequence[int], out_dir: Path | None) -> list[Target]:
    """The folders to make: beside the data set, in ``out_dir``, or for one scale ``out_dir`` itself."""
    scales = sorted(set(scales))
    if out_dir is not None and len(scales) == 1:
        return [Target(out_dir, scales[0])]
    siblings = [Target(low_resolution_sibling(data_dir, scale), scale) for scale in scales]
    return [Target(out_dir / folder.name, scale) for folder, scale in siblings] if out_dir else siblings


def make_low_resolution(
    data_dir: Path, targets: Sequence[Target], *, quality: int = 95, workers: int = 1
) -> list[str]:
    """Make the folders; all that can be checked beforehand is checked before the first file is written.

    Args:
        data_dir: the data set.
        targets: the folders to make and their scales.
        quality: of JPEG files, 1 to 100.
        workers: processes.

    Returns:
        One message for each image that cannot be read.

    Raises:
        ReidError: as :func:`datasets.low_resolution.make_plan`, or if an image is too small for a scale or a
            file cannot be written.
    """
    plan = make_plan(data_dir, targets, quality)
    _report_found(data_dir, plan)
    sizes = each(read_size, [job.source for job in plan.jobs], workers, "check sizes")
    sized = {job: size for job, size in zip(plan.jobs, sizes, strict=True) if not isinstance(size, str)}
    check_sizes(sized)
    for folder, mark in plan.marks.items():
        write_text(folder / MARK, mark)
    faults = each(partial(make_images, quality=quality), list(sized), workers, "low resolution")
    written = sum(len(job.targets) for job, fault in zip(sized, faults, strict=True) if not fault)
    logger.info("%d files written to %s", written, ", ".join(map(str, plan.marks)))
    return [size for size in sizes if isinstance(size, str)] + [fault for fault in faults if fault]


def _report_found(data_dir: Path, plan: Plan) -> None:
    if plan.finished:
        logger.info("%d files are finished and skipped", plan.finished)
    if plan.strangers:
        more = len(plan.strangers) - 3
        shown = ", ".join(map(str, plan.strangers[:3])) + (f" and {more} more" if more > 0 else "")
        message = "%d files of %s are no images by their endings and are not copied: %s"
        logger.warning(message, len(plan.strangers), data_dir, shown)


def check_sizes(sizes: Mapping[Job, tuple[int, int]]) -> None:
    """Refuse scales that leave too little of an image, and log what the others leave.

    Args:
        sizes: height and width of each image in pixels.

    Raises:
        ReidError: if a side would have less than :data:`utils.resolution.SMALLEST_SIDE` pixels.
    """
    lows = sorted(
        (low_resolution_size(*size, scale), scale, job.source)
        for job, size in sizes.items()
        for _, scale in job.targets
    )
    if small := [low for low in lows if min(low[0]) < SMALLEST_SIDE]:
        (height, width), scale, path = min(small, key=lambda low: min(low[0]))
        raise ReidError(
            f"--scale {scale} must leave {SMALLEST_SIDE} pixels or more on each side, but {path} becomes "
            f"{height} x {width} (height x width), the smallest of {len(small)} such images; "
            "use a smaller scale, or remove them"
        )
    for scale in sorted({low[1] for low in lows}):
        of_scale = [low[0] for low in lows if low[1] == scale]
        first, last = (f"{height} x {width}" for height, width in (of_scale[0], of_scale[-1]))
        logger.info("x%d: %s pixels (height x width)", scale, first if first == last else f"{first} to {last}")
