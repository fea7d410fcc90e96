"""Parts of a list of images, one for each process."""

import argparse
import os
import re
from collections.abc import Mapping
from typing import NamedTuple


class Share(NamedTuple):
    """One of several parts of nearly equal length.

    Attributes:
        number: from 1 on.
        total: how many parts there are.
    """

    number: int = 1
    total: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    def rows(self, count: int) -> tuple[int, int]:
        """First row and the row after the last, of ``count``."""
        return count * (self.number - 1) // self.total, count * self.number // self.total

    def within(self, environment: Mapping[str, str] = os.environ) -> "Share":
        """The part of this part that belongs to this process among those that torchrun has started."""
        rank, processes = int(environment.get("RANK", "0")), int(environment.get("WORLD_SIZE", "1"))
        return Share((self.number - 1) * processes + rank + 1, self.total * processes)


def parse_share(text: str) -> Share:
    """From ``2/4``.

    Raises:
        argparse.ArgumentTypeError: if it is anything else.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"must be I/N with I from 1 to N, e.g. 1/4 to 4/4, got {text!r}")
    return Share(int(match[1]), int(match[2]))
