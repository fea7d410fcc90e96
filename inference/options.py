"""Scripts with options of their own beside those that all scripts share."""

import argparse
from collections.abc import Callable, Sequence

from engine.cli import OneLineParser, Settings, run_script


def own_options() -> argparse.ArgumentParser:
    """An empty parser for the options of one script; the shared ones and KEY VALUE pass through it."""
    return OneLineParser(add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS)


def run_with_options(
    action: Callable[[Settings, argparse.Namespace], object],
    parser: argparse.ArgumentParser,
    description: str,
    argv: Sequence[str] | None,
) -> int:
    """As :func:`engine.cli.run_script`, for a script with further options.

    Args:
        action: what the script does with its settings and its own options.
        parser: from :func:`own_options`, filled.
        description: for ``--help``; the options' help is added.
        argv: arguments without the program's name; None = those of the process.
    """
    own, shared = parser.parse_known_args(argv)
    own_help = parser.format_help().replace("options:", "options of this script:", 1).strip()
    return run_script(lambda settings: action(settings, own), f"{description.rstrip()}\n\n{own_help}", shared)
