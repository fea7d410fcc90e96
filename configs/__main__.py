"""Print the keys of the configuration with default, allowed values and meaning, as Markdown tables.

``python -m configs > docs/configuration.md`` rewrites that page.
"""

import sys
from collections.abc import Sequence

from configs.defaults import SCHEMA
from utils.command_line import OneLineParser, exit_code, show
from utils.errors import did_you_mean

_HEAD = """\
# Configuration

Every key of `configs/defaults.py`; `python -m configs > docs/configuration.md` rewrites this page.
"""


def markdown_tables(prefix: str = "") -> str:
    """The keys that begin with ``prefix``, a table for each section: name, default, allowed values, meaning."""
    tables: dict[str, list[str]] = {}
    for name, key in SCHEMA.items():
        if name.startswith(prefix):
            default = repr(key.default).replace("'", "") or " "
            allowed = key.rule.text if key.rule else type(key.default).__name__
            cells = (cell.replace("|", r"\|") for cell in (f"`{name}`", f"`{default}`", allowed, key.meaning))
            rows = tables.setdefault(name.rpartition(".")[0] or "Without a section", [])
            rows.append(f"| {' | '.join(cells)} |\n")
    head = "| key | default | allowed | meaning |\n|---|---|---|---|\n"
    return "\n".join(f"## {section}\n\n{head}{''.join(rows)}" for section, rows in tables.items())


def main(argv: Sequence[str] | None = None) -> None:
    """Print the page, or its tables of one prefix.

    Exits with code 2 and one line on stderr where no key begins so.
    """
    parser = OneLineParser(prog="python -m configs", description=__doc__)
    parser.add_argument("prefix", nargs="?", default="", metavar="PREFIX", help="how the keys begin, e.g. SOLVER")
    prefix: str = parser.parse_args(argv).prefix
    tables = markdown_tables(prefix)
    if not tables:
        starts = dict.fromkeys([*(name.partition(".")[0] for name in SCHEMA), *SCHEMA])
        parser.fail(f"PREFIX must begin a key, got {prefix!r}{did_you_mean(prefix, starts)}")
    show(tables if prefix else f"{_HEAD}\n{tables}")


if __name__ == "__main__":
    sys.exit(exit_code(main))
