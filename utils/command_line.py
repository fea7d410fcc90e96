"""Command-line parsing that reports a mistake in one line, with exit code 2."""

import argparse
import math
from collections.abc import Callable
from typing import Any, NoReturn

from utils.text import printable

EXIT_USER_ERROR = 2


class OneLineParser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line, without its usage text."""

    def error(self, message: str) -> NoReturn:
        """Report a wrong option and exit."""
        self.fail(f"{message}; see --help")

    def fail(self, mistake: str) -> NoReturn:
        """Report a mistake that the list of options does not help with, and exit."""
        self.exit(EXIT_USER_ERROR, f"error: {printable(' '.join(mistake.split()))}\n")


def number(kind: type[int] | type[float], lowest: float, highest: float = math.inf) -> Callable[[str], Any]:
    """The ``type`` of an option that takes a number.

    Args:
        kind: ``int`` or ``float``.
        lowest: smallest value that is allowed.
        highest: largest value that is allowed.
    """

    def convert(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(lowest - 1)
        if not lowest <= value <= highest:
            limits = f"from {lowest} to {highest}" if highest < math.inf else f"of {lowest} or more"
            name = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"must be a {name} {limits}, got {text!r}")
        return value

    return convert
