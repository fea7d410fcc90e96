"""Write a low-resolution twin of a data set: market1501_x2 beside market1501, sides half as long.

python makelr.py --scale 2 --data_dir ./market1501
python makelr.py --scale 2 4 --data_dir ../datasets/market1501 --out_dir /fast/disk

Images (jpg, png, bmp, webp, tif) keep sub-folder, name and format and are bicubic-downsampled with
antialiasing; other files are named, not copied. Repeat a command that was stopped: it skips finished files
and goes on (so delete the folder if images have changed). A folder that was not begun by the same command
(its makelr.json tells) is never touched. Exit code 2: a mistake, or images that cannot be read; these are
named at the end, the others are done.
"""

import argparse
import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from datasets.low_resolution import (
    MARK,
    Job,
    Plan,
    Target,
    low_resolution_sibling,
    make_images,
    make_plan,
    read_size,
)
from engine.cli import OneLineParser, exit_code
from utils.atomic import write_text
from utils.errors import ReidError
from utils.log import setup_logging
from utils.processes import each, usable_cpus
from utils.resolution import SMALLEST_SIDE, low_resolution_size

logger = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """The options of this script."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = partial(parser.add_argument, metavar="N")
    scales = "divide height and width by N, 2 or more; several numbers make one folder each"
    add("--scale", type=partial(_whole_number, lowest=2), nargs="+", required=True, help=scales)
    add("--data_dir", type=Path, required=True, metavar="DIR", help="folder of the data set")
    folders = "write into DIR itself, or for several scales into DIR/{name}_x{N} (default: {data_dir}_x{N})"
    add("--out_dir", type=Path, metavar="DIR", help=folders)
    quality = "of JPEG files, 1 to 100 (default: 95); other formats are written without loss"
    add("--quality", type=partial(_whole_number, lowest=1, highest=100), default=95, help=quality)
    add("--workers", type=_whole_number, default=usable_cpus(), help="processes (default: the CPUs it may use)")
    return parser


def _whole_number(text: str, *, lowest: int = 1, highest: int = sys.maxsize) -> int:
    number = int(text) if text.isdecimal() else lowest - 1
    if not lowest <= number <= highest:
        limits = f"of {lowest} or more" if highest == sys.maxsize else f"from {lowest} to {highest}"
        raise argparse.ArgumentTypeError(f"must be a whole number {limits}, got {text!r}")
    return number


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


def main(argv: Sequence[str] | None = None) -> int:
    """Make the folders; return the exit code."""
    options = build_parser().parse_args(argv)
    setup_logging()
    return exit_code(partial(_make, options))


def _make(options: argparse.Namespace) -> None:
    targets = targets_of(options.data_dir, options.scale, options.out_dir)
    faults = make_low_resolution(options.data_dir, targets, quality=options.quality, workers=options.workers)
    if faults:
        sys.stderr.write("\n".join([*faults, ""]))
        raise ReidError(f"{len(faults)} images could not be read")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else the processes would outlive this one
    sys.exit(main())
