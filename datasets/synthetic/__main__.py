"""``python -m datasets.synthetic FOLDER`` draws the synthetic data set."""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from datasets.synthetic.dataset import draw_dataset
from datasets.synthetic.plan import SyntheticSpec, plan_images
from utils.command_line import OneLineParser, exit_code
from utils.errors import ReidError
from utils.log import setup_logging

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> Path:
    """Draw the data set that the command line asks for, and return its folder.

    Exits with code 2 and one line on stderr where an argument or the folder cannot be used.
    """
    parser = OneLineParser(
        prog="python -m datasets.synthetic",
        description="Draw a synthetic person re-identification data set in Market-1501 layout. The same "
        "arguments give the same files, byte for byte; a complete folder does not change.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make; must be absent or empty")
    for each in fields(SyntheticSpec):
        option, text = f"--{each.name.replace('_', '-')}", each.metadata["help"]
        parser.add_argument(option, type=int, default=each.default, metavar="N", help=text)
    arguments = vars(parser.parse_args(argv))
    out: Path = arguments.pop("out")
    try:
        spec = SyntheticSpec(**arguments)
        draw_dataset(out, spec, progress=True)
    except (ReidError, OSError) as error:
        parser.fail(str(error))
    total = sum(1 for _ in plan_images(spec))
    logger.info("the synthetic data set of %d images is in %s", total, out)
    return out


if __name__ == "__main__":
    setup_logging()
    sys.exit(exit_code(main))
