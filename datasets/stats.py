"""``python -m datasets.stats NAME`` counts what a data set holds."""

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from datasets.contact_sheet import draw_contact_sheet
from datasets.low_resolution import read_size
from datasets.readers import READERS, read_dataset
from datasets.sample import DISTRACTOR_ID, NoTrainingImagesError, ReidSplits, Sample
from utils.command_line import OneLineParser, exit_code, show_tables
from utils.errors import ReidError
from utils.log import setup_logging
from utils.pictures import write_png
from utils.processes import each, usable_cpus
from utils.text import printable

logger = logging.getLogger(__name__)

_ROWS = {  # title in the table -> attribute of SplitStatistics
    "identities": "identities",
    "images": "images",
    "distractors": "distractors",
    "cameras": "cameras",
    "images per identity": "per_identity",
    "height in pixels": "heights",
    "width in pixels": "widths",
}


class Spread(NamedTuple):
    """Smallest, median and largest of some numbers."""

    lowest: float
    median: float
    highest: float

    def __str__(self) -> str:
        """As a cell of the table."""
        return " / ".join(f"{value:g}" for value in self)


@dataclass(frozen=True)
class SplitStatistics:
    """Counts and sizes of a split.

    Attributes:
        images: number of images, including distractors.
        identities: number of people without distractors.
        distractors: images of identity 0.
        cameras: number of cameras; None if images have no camera.
        per_identity: images per person; None without people.
        heights: of the images, in pixels; None without a readable image.
        widths: of the images, in pixels; None without a readable image.
    """

    images: int
    identities: int
    distractors: int
    cameras: int | None
    per_identity: Spread | None
    heights: Spread | None
    widths: Spread | None


def count_split(
    samples: Sequence[Sample], sizes: Sequence[tuple[int, int]], *, cameras: bool = True
) -> SplitStatistics:
    """Count a split.

    Args:
        samples: the images.
        sizes: height and width of the images that can be read, in pixels.
        cameras: False if images have no camera.
    """
    people = Counter(sample.person_id for sample in samples)
    distractors = people.pop(DISTRACTOR_ID, 0)
    return SplitStatistics(
        len(samples),
        len(people),
        distractors,
        len({sample.camera_id for sample in samples}) if cameras else None,
        _spread(list(people.values())),
        _spread([height for height, _ in sizes]),
        _spread([width for _, width in sizes]),
    )


def _spread(values: Sequence[int]) -> Spread | None:
    return Spread(min(values), float(np.median(values)), max(values)) if values else None


def count_dataset(splits: ReidSplits, *, workers: int = 1) -> dict[str, SplitStatistics]:
    """Count each split; sizes come from the headers of the files, read in parallel.

    Args:
        splits: the data set.
        workers: processes.

    Returns:
        Statistics by split: ``train``, ``query``, ``gallery``.
    """
    paths = [sample.path for samples in splits.parts.values() for sample in samples]
    sizes = dict(zip(paths, each(read_size, paths, workers, "read sizes"), strict=True))
    if faults := [size for size in sizes.values() if isinstance(size, str)]:
        logger.warning("%d images cannot be read, first: %s", len(faults), faults[0])
    return {
        name: count_split(
            samples,
            [size for sample in samples if not isinstance(size := sizes[sample.path], str)],
            cameras=splits.cameras,
        )
        for name, samples in splits.parts.items()
    }


def build_table(name: str, statistics: dict[str, SplitStatistics]) -> Table:
    """The statistics as a table, one column for each split; spreads are smallest / median / largest."""
    heading = Text(printable(name), "table.title")  # text: a name may hold [ and ]
    table = Table(title=heading, box=SIMPLE, caption="a / b / c: smallest / median / largest")
    table.add_column("")
    for split in statistics:
        table.add_column(split, justify="right")
    for title, field in _ROWS.items():
        values = (getattr(of_split, field) for of_split in statistics.values())
        cells = (f"{value:,}" if isinstance(value, int) else str(value or "-") for value in values)
        table.add_row(title, *cells)
    return table


def _read(name: str, root: Path, seed: int) -> ReidSplits:
    """The data set, or its test alone if it has no training images."""
    try:
        return read_dataset(name, root, seed=seed)
    except NoTrainingImagesError as error:
        splits = read_dataset(name, root, with_train=False, seed=seed)
        logger.warning("only the test is counted: %s", error)
        return splits


def build_parser() -> OneLineParser:
    """The options of this script."""
    parser = OneLineParser(
        prog="python -m datasets.stats",
        description="Count identities, images and cameras of each split of a data set, and measure its images.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    names = f"one of {', '.join(READERS)}, a folder, or a CSV file"
    parser.add_argument("name", metavar="NAME", help=names)
    parser.add_argument(
        "--root", type=Path, default=Path("../datasets"), metavar="DIR", help="folder of the data sets"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of a random split")
    picture = "new PNG file with some people of the data set"
    parser.add_argument("--picture", type=Path, default=argparse.SUPPRESS, metavar="FILE.png", help=picture)
    return parser


def main(argv: Sequence[str] | None = None) -> dict[str, SplitStatistics]:
    """Print the table of the data set that the command line names, and return its statistics.

    Exits with code 2 and one line on stderr where an argument or the data set cannot be used.
    """
    parser = build_parser()
    options = parser.parse_args(argv)
    picture: Path | None = getattr(options, "picture", None)
    if picture and (picture.suffix.lower() != ".png" or picture.exists()):
        parser.error(f"--picture must be a new file with the ending .png, got {picture}; give another name")
    try:
        splits = _read(options.name, options.root, options.seed)
        statistics = count_dataset(splits, workers=usable_cpus())
        show_tables(build_table(splits.name, statistics))
        if picture:
            write_png(picture, draw_contact_sheet(splits))
            logger.info("the picture is %s", picture)
    except (ReidError, OSError) as error:
        parser.fail(str(error))
    return statistics


if __name__ == "__main__":
    setup_logging()
    sys.exit(exit_code(main))
