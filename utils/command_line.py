"""Command lines whose mistakes are told in one line, with exit code 2."""

import argparse
import math
from collections.abc import Callable
from typing import Any, NoReturn

EXIT_USER_ERROR = 2


class OneLineParser(argparse.ArgumentParser):
    """A parser whose complaints take one line, like every other mistake's."""

    def error(self, message: str) -> NoReturn:
        """Exit for an option that cannot be."""
        self.fail(f"{message}; see --help")

    def fail(self, mistake: str) -> NoReturn:
        """Exit for a mistake that no option list helps with."""
        self.exit(EXIT_USER_ERROR, f"error: {' '.join(mistake.split())}\n")


def number(kind: type[int] | type[float], lowest: float, highest: float = math.inf) -> Callable[[str], Any]:
    """The type of an option that takes a number.

    Args:
        kind: ``int`` or ``float``.
        lowest: allowed.
        highest: allowed.
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
