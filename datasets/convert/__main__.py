"""``python -m datasets.convert prw|mot17|... RAW OUT`` makes a data set from a release as it was downloaded."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from utils.command_line import OneLineParser, exit_code, number
from utils.errors import ReidError
from utils.log import setup_logging
from utils.processes import MAX_WORKERS, usable_cpus

_DESCRIPTION = """\
Cut people out of the frames of a release and write them in Market-1501 layout:

python -m datasets.convert prw PRW-v16.04.20 ../datasets/PRW
python -m datasets.convert mot17 MOT17 ../datasets/MOT17_reid   (also mot16, mot20, dancetrack, sportsmot)

OUT appears when it is complete; until then the files are in OUT.unfinished. Repeat a command that was stopped: it
skips finished files and goes on. It never touches a folder that another command
began (convert.json in it tells). Exit code 2: a mistake, or files that cannot be read.
"""


def build_parser() -> OneLineParser:
    """The options of this script."""
    from datasets.convert.mot17 import DETECTORS, Mot17Rules
    from datasets.readers.market import TRACKING

    parser = OneLineParser(
        prog="python -m datasets.convert",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    releases = parser.add_subparsers(dest="release", required=True, metavar=f"prw|{'|'.join(TRACKING)}")
    prw, mot17 = (
        releases.add_parser(name, aliases=more, help=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        for name, more, text in (
            ("prw", (), "PRW-v16.04.20"),
            (TRACKING[0], TRACKING[1:], "MOT17, MOT16, MOT20, DanceTrack, SportsMOT"),
        )
    )
    prw.add_argument(
        "--keep-ambiguous", action="store_true", help="people without an identity (-2) join the gallery as 0000"
    )
    rules = Mot17Rules()
    add = mot17.add_argument
    add("--detector", choices=DETECTORS, default=rules.detector, help="which copy of each sequence of MOT17 is read")
    tests = "numbers of the sequences to test on (default: the last third; the log tells the numbers)"
    add("--test-sequences", type=number(int, 1), nargs="+", default=argparse.SUPPRESS, metavar="N", help=tests)
    visible = "leave out people of whom less is visible, 0 to 1"
    add("--min-visibility", type=number(float, 0, 1), default=rules.min_visibility, metavar="X", help=visible)
    small = "leave out people who are smaller, in pixels"
    add("--min-height", type=number(int, 1), default=rules.min_height, metavar="N", help=small)
    add("--every", type=number(int, 1, 10**6), default=rules.every, metavar="N", help="take every N-th frame")
    for release in (prw, mot17):
        release.add_argument("raw", type=Path, metavar="RAW", help="folder of the release")
        release.add_argument("out", type=Path, metavar="OUT", help="folder to make")
        release.add_argument(
            "--quality", type=number(int, 1, 100), default=95, metavar="N", help="of JPEG files, 1 to 100"
        )
        release.add_argument(
            "--workers", type=number(int, 1, MAX_WORKERS), default=usable_cpus(), metavar="N", help="processes"
        )
    return parser


def main(argv: Sequence[str] | None = None) -> Path:
    """Make the data set that the command line asks for, and return its folder.

    Exits with code 2 and one line on stderr where an argument or a file cannot be used.
    """
    # Imported here, where exit_code answers Ctrl-C.
    from datasets.convert.crops import write_crops
    from datasets.convert.mot17 import Mot17Rules, plan_mot17
    from datasets.convert.prw import plan_prw

    parser = build_parser()
    options = vars(parser.parse_args(argv))
    release, raw, out = options.pop("release"), options.pop("raw"), options.pop("out")
    quality, workers = options.pop("quality"), options.pop("workers")
    origin = Path(os.path.relpath(raw.resolve(), out.resolve())).as_posix()  # still true if both move
    mark = {"made_by": f"datasets.convert {release}", "source": origin, "quality": quality, **options}
    if "test_sequences" in options:
        options["test_sequences"] = tuple(options["test_sequences"])
    try:
        frames = (
            plan_prw(raw, workers=workers, **options) if release == "prw" else plan_mot17(raw, Mot17Rules(**options))
        )
        write_crops(frames, out, mark, quality=quality, workers=workers)
    except (ReidError, OSError) as error:
        parser.fail(str(error))
    return Path(out)


if __name__ == "__main__":
    setup_logging()
    sys.exit(exit_code(main))
