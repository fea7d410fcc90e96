"""``snu-reid COMMAND ...`` (or ``python -m snu_reid``): every script of the project under one name."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from snu_reid.commands import COMMANDS, SCRIPTS, TOOLS
from utils import command_line
from utils.command_line import OneLineParser, exit_code, program_name, show
from utils.errors import lookup
from utils.log import setup_logging
from utils.version import VERSION

_DESCRIPTION = """\
Person re-identification: train an embedding, evaluate it, embed a gallery, search it.

snu-reid synthetic demo_data/synthetic
snu-reid train --config_file configs/demo.yml
snu-reid embed DATASETS.ROOT_DIR photos MODEL.PRETRAIN_PATH best.pth OUTPUT_DIR gallery
snu-reid search --gallery_data gallery DATASETS.ROOT_DIR photo.jpg MODEL.PRETRAIN_PATH best.pth
"""
_EPILOG = """\
commands:
{}

tools:
{}

The options of a command:  snu-reid COMMAND --help
Pages:  {}
"""

_HOME = command_line.__name__.removesuffix("utils.command_line")  # "" in the checkout, "snu_reid." in the wheel
_FOLDER = Path(command_line.__file__).resolve().parents[1]


def build_parser() -> OneLineParser:
    """The options that stand where a command could."""
    width = max(map(len, COMMANDS))
    lists = (
        "\n".join(f"  {name:{width}}  {command.summary}" for name, command in table.items())
        for table in (SCRIPTS, TOOLS)
    )
    parser = OneLineParser(
        prog="snu-reid",
        usage="snu-reid COMMAND ...",
        description=_DESCRIPTION,
        epilog=_EPILOG.format(*lists, _FOLDER / "docs"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"snu-reid {VERSION}")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in COMMANDS:
        return _without_command(arguments)
    name, *rest = arguments
    with program_name(f"snu-reid {name}"):
        if name in SCRIPTS:
            code: int = _entry(name)(rest)
            return code
        setup_logging()
        return exit_code(lambda: _entry(name)(rest))


def _without_command(arguments: list[str]) -> int:
    """Show the list of commands, or refuse a name that is none of them."""
    parser = build_parser()
    name = parser.parse_args(arguments[:1]).command  # what follows a wrong name are not our options
    if name is not None:
        return exit_code(lambda: lookup(COMMANDS, name, "COMMAND"))
    show(parser.format_help())
    return 0


def _entry(name: str) -> Callable[[Sequence[str]], Any]:
    """The ``main`` of a command; exits with one line where this version lacks its module."""
    module = _HOME + COMMANDS[name].module
    try:
        entry: Callable[[Sequence[str]], Any] = import_module(module).main
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        OneLineParser().fail(f"COMMAND {name} is not part of snu-reid {VERSION}; see snu-reid --help")
    return entry


if __name__ == "__main__":
    sys.exit(main())
