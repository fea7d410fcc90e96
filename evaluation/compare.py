"""``python -m evaluation.compare A/report.json B/report.json``: tests with intervals, seeds, paired differences."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils.command_line import OneLineParser, exit_code, number, show, show_tables
from utils.errors import ReidError, lookup
from utils.files import write_text
from utils.log import setup_logging
from utils.text import printable

if TYPE_CHECKING:  # --help answers before torch is imported
    from evaluation.comparison import Comparison

logger = logging.getLogger(__name__)

_DESCRIPTION = """\
Compare tests of several models: mAP, mINP and rank-k with 95 % intervals, and the difference of each pair with its
interval and p-value. Reports whose training differs in the seed alone are one row, the mean over seeds.

python -m evaluation.compare baseline/report.json ctl/report.json --out table.tex table.csv
python -m evaluation.compare baseline_seed* ctl_seed* --names baseline CTL

Beside each report.json lies its queries.csv; test.py writes both. Every data set has tables of its own; other
differences in how models were tested are refused. docs/comparison.md says what the figures mean.
"""


def build_parser() -> OneLineParser:
    """The options of this script."""
    parser = OneLineParser(
        prog="python -m evaluation.compare",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("reports", type=Path, nargs="+", metavar="REPORT", help="report.json of a test, or its folder")
    row = 'row of the reports, e.g. "instance x4 x1" (default: the first plain instance retrieval); may be repeated'
    add("--row", action="append", default=[], metavar="ROW", help=row)
    names = "names of the groups in the order of their first reports (default: A, B, ...)"
    add("--names", nargs="+", default=[], metavar="NAME", help=names)
    ignore = "settings in which seeds of one group may differ too"
    add("--ignore", nargs="+", default=[], metavar="KEY", help=ignore)
    out = "new files: .tex (booktabs), .md or .csv"
    add("--out", type=Path, nargs="+", default=[], metavar="FILE", help=out)
    resamples = "of intervals and p-values (default: 10000)"
    add("--resamples", type=number(int, 100, 10**7), default=10_000, metavar="N", help=resamples)
    add("--seed", type=number(int, 0, 2**32 - 1), default=0, metavar="N", help="of the resamples (default: 0)")
    return parser


def main(argv: Sequence[str] | None = None) -> list["Comparison"]:
    """Print and write the comparison that the command line asks for, and return it, one for each table.

    Exits with code 2 and one line on stderr where an argument or a report cannot be used.
    """
    parser = build_parser()
    options = parser.parse_args(argv)
    try:
        return _compare(options)
    except (ReidError, OSError) as error:
        parser.fail(str(error))


def _compare(options: argparse.Namespace) -> list["Comparison"]:
    from evaluation.comparison import compare
    from evaluation.report.comparison_tables import FORMATS, console_tables, legend
    from evaluation.runs import Run, read_runs

    for path in options.out:
        lookup(FORMATS, path.suffix.lower(), f"the ending of --out {path}")
        if path.exists() or options.out.count(path) > 1:
            raise ReidError(f"--out must be new files, got {path}, which is there; give another name or remove it")
    tables: dict[tuple[str, str], list[Run]] = {}
    for row in options.row or [""]:
        for report in options.reports:
            for run in read_runs(report, row):
                tables.setdefault((run.dataset, row), []).append(run)
    settings = {name: getattr(options, name) for name in ("resamples", "seed", "names", "ignore")}
    comparisons = [compare(runs, **settings) for runs in tables.values()]
    for comparison in comparisons:
        show_tables(*console_tables(comparison))
        show("".join(f"{printable(line)}\n" for line in legend(comparison)) + "\n")
    for path in options.out:
        write_text(path, FORMATS[path.suffix.lower()](comparisons))
        logger.info("the tables are in %s", path)
    return comparisons


if __name__ == "__main__":
    setup_logging()
    sys.exit(exit_code(main))
