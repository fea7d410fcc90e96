"""Write a low-resolution copy of a data set: market1501_x2 beside market1501, sides half as long.

python makelr.py --scale 2 --data_dir ../datasets/market1501
python makelr.py --scale 2 4 --data_dir ../datasets/market1501 --out_dir /fast/disk

A folder that is not here is looked for beside the code, in ../datasets. Images keep their sub-folder, name and format
and are bicubic-downsampled with antialiasing; the script names other files and does not copy them. Repeat a command
that was stopped: it skips finished files and goes on (so delete the folder if images have changed). It never touches
a folder that another command began (makelr.json in it tells). Exit code 2: a mistake, or images that cannot be read;
the script names these at the end and processes the others.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from configs import SCHEMA
from utils.command_line import OneLineParser, exit_code, number
from utils.errors import ReidError
from utils.log import setup_logging
from utils.processes import MAX_WORKERS, usable_cpus
from utils.text import printable


def build_parser() -> OneLineParser:
    """The options of this script."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = partial(parser.add_argument, metavar="N")
    scales = "divide height and width by N, 2 or more; several numbers make one folder each"
    add("--scale", type=number(int, 2), nargs="+", required=True, help=scales)
    add("--data_dir", type=Path, required=True, metavar="DIR", help="folder of the data set")
    folders = "write into DIR itself, or for several scales into DIR/{name}_x{N} (default: {data_dir}_x{N})"
    add("--out_dir", type=Path, metavar="DIR", help=folders)
    quality = "of JPEG files, 1 to 100 (default: 95); others without loss where the format can"
    add("--quality", type=number(int, 1, 100), default=95, help=quality)
    add(
        "--workers",
        type=number(int, 1, MAX_WORKERS),
        default=usable_cpus(),
        help="processes (default: the CPUs it may use)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Make the folders; return the exit code."""
    options = build_parser().parse_args(argv)
    setup_logging()
    return exit_code(partial(_make, options))


def _make(options: argparse.Namespace) -> None:
    # It imports torch: seconds in which Ctrl-C would be a traceback outside of exit_code.
    from datasets.make_low_resolution import make_low_resolution, targets_of

    source = _find(options.data_dir)
    targets = targets_of(source, options.scale, options.out_dir)
    faults = make_low_resolution(source, targets, quality=options.quality, workers=options.workers)
    if faults:
        sys.stderr.write("\n".join([*map(printable, faults), ""]))
        raise ReidError(f"{len(faults)} images could not be read")


def _find(data_dir: Path) -> Path:
    """The folder here, or where data sets lie by default."""
    beside = Path(SCHEMA["DATASETS.ROOT_DIR"].default, data_dir)
    return beside if beside.is_dir() and not data_dir.exists() else data_dir


if __name__ == "__main__":
    sys.exit(main())
