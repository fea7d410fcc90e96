"""``python -m datasets.convert prw|mot17|... RAW OUT`` makes a data set from a release; ``tracks`` cuts footage."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from utils.command_line import OneLineParser, exit_code, number
from utils.errors import ReidError
from utils.log import setup_logging
from utils.processes import MAX_WORKERS, usable_cpus

_DESCRIPTION = """\
Cut people out of the frames of a release and write them in Market-1501 layout, or out of your own footage:

python -m datasets.convert prw PRW-v16.04.20 ../datasets/PRW
python -m datasets.convert mot17 MOT17 ../datasets/MOT17_reid   (also mot16, mot20, dancetrack, sportsmot)
python -m datasets.convert tracks gate.mp4 boxes.txt ../galleries/gate        (boxes of any detector or tracker)

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
    releases = parser.add_subparsers(dest="release", required=True, metavar=f"prw|{'|'.join(TRACKING)}|tracks")
    prw, mot17, tracks = (
        releases.add_parser(name, aliases=more, help=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        for name, more, text in (
            ("prw", (), "PRW-v16.04.20"),
            (TRACKING[0], TRACKING[1:], "MOT17, MOT16, MOT20, DanceTrack, SportsMOT"),
            ("tracks", (), "any video or frames, with boxes in the form of MOT"),
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
    _add_tracks(tracks)
    for release in (prw, mot17, tracks):
        if release is not tracks:
            release.add_argument("raw", type=Path, metavar="RAW", help="folder of the release")
        release.add_argument("out", type=Path, metavar="OUT", help="folder to make")
        release.add_argument(
            "--quality", type=number(int, 1, 100), default=95, metavar="N", help="of JPEG files, 1 to 100"
        )
        release.add_argument(
            "--workers", type=number(int, 1, MAX_WORKERS), default=usable_cpus(), metavar="N", help="processes"
        )
    return parser


def _add_tracks(parser: argparse.ArgumentParser) -> None:
    """What belongs to ``tracks`` alone."""
    from datasets.convert.mot_rows import RowRules
    from datasets.convert.tracks import TrackRules

    rules, add = TrackRules(RowRules()), parser.add_argument
    add("footage", type=Path, metavar="VIDEO_OR_FRAMES", help="video, folder of frames or sequences, or of videos")
    boxes = "file with lines frame,id,x,y,w,h,confidence,...; or folder with NAME.txt or NAME/gt/gt.txt of each"
    add("boxes", type=Path, metavar="BOXES", help=boxes)
    add("--every", type=number(int, 1, 10**6), default=10, metavar="N", help="take every N-th frame")
    for side, least in (("height", rules.min_height), ("width", rules.min_width)):
        small = f"leave out people of a smaller {side}, in pixels"
        add(f"--min-{side}", type=number(int, 1), default=least, metavar="N", help=small)
    confidence = "leave out boxes of less (those of 0 always)"
    add("--min-confidence", type=number(float, -(10**9)), default=argparse.SUPPRESS, metavar="X", help=confidence)
    visible = "leave out people of whom less is visible, 0 to 1, where the boxes tell"
    add("--min-visibility", type=number(float, 0, 1), default=0.0, metavar="X", help=visible)
    classes = "values of the eighth column (default: all; of a gt.txt 1, pedestrians)"
    add("--classes", type=number(int, -1), nargs="+", default=argparse.SUPPRESS, metavar="N", help=classes)
    camera = "number of the camera; more sequences have the next ones"
    add("--camera", type=number(int, 0, 10**6), default=rules.camera, metavar="N", help=camera)


def main(argv: Sequence[str] | None = None) -> Path:
    """Make the data set that the command line asks for, and return its folder.

    Exits with code 2 and one line on stderr where an argument or a file cannot be used.
    """
    parser = build_parser()
    options = vars(parser.parse_args(argv))
    out: Path = options["out"]
    try:
        if options["release"] == "tracks":
            _cut_tracks(**options)
        else:
            _convert(**options)
    except (ReidError, OSError) as error:
        parser.fail(str(error))
    return out


def _convert(release: str, raw: Path, out: Path, quality: int, workers: int, **options: Any) -> None:  # noqa: ANN401
    from datasets.convert.crops import write_crops
    from datasets.convert.mot17 import Mot17Rules, plan_mot17
    from datasets.convert.prw import plan_prw

    mark = {"made_by": f"datasets.convert {release}", "source": _origin(raw, out), "quality": quality, **options}
    if "test_sequences" in options:
        options["test_sequences"] = tuple(options["test_sequences"])
    frames = plan_prw(raw, workers=workers, **options) if release == "prw" else plan_mot17(raw, Mot17Rules(**options))
    write_crops(frames, out, mark, quality=quality, workers=workers)


def _cut_tracks(release: str, out: Path, quality: int, workers: int, **options: Any) -> None:  # noqa: ANN401
    from datasets.convert.footage import find_sources
    from datasets.convert.mot_rows import RowRules
    from datasets.convert.tracks import TrackRules, plan_tracks, write_tracks

    footage, boxes = options.pop("footage"), options.pop("boxes")
    origins = {"footage": _origin(footage, out), "boxes": _origin(boxes, out)}
    mark = {"made_by": f"datasets.convert {release}", **origins, "quality": quality, **options}
    sizes = {name: options.pop(name) for name in ("min_height", "min_width", "camera")}
    options["classes"] = tuple(options.pop("classes", ()))
    sequences = plan_tracks(find_sources(footage, boxes), TrackRules(RowRules(**options), **sizes))
    mark["sha256_of_boxes"] = [sequence.digest for sequence in sequences]
    write_tracks(sequences, out, mark, quality=quality, workers=workers)


def _origin(path: Path, out: Path) -> str:
    """Relative to the result: it is still true if both move."""
    return Path(os.path.relpath(path.resolve(), out.resolve())).as_posix()


if __name__ == "__main__":
    setup_logging()
    sys.exit(exit_code(main))
