"""The one exception for a user's mistakes, and the words of its messages."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class ReidError(ValueError):
    """A wrong argument, file or configuration; the message says what is wrong, why, and how to repair it.

    Scripts turn it into one line on stderr and exit code 2. A message names the argument, the rule,
    the value received and the remedy, in this order.
    """


def one_line(error: BaseException) -> str:
    """The message of an error on one line; the name of its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def lookup(table: Mapping[str, T], name: str, argument: str) -> T:
    """The entry of a table of named choices.

    Args:
        table: name -> choice.
        name: as the user wrote it.
        argument: what the message calls the name, such as ``MODEL.POOLING``.

    Raises:
        ReidError: for an unknown name; the message lists the valid ones and proposes the nearest.
    """
    if name not in table:
        raise ReidError(f"{argument} must be one of {', '.join(table)}, got {name!r}{did_you_mean(name, table)}")
    return table[name]


def did_you_mean(name: str, candidates: Iterable[str], count: int = 1) -> str:
    """The end of a message, which proposes the candidates most similar to ``name`` in any case.

    Args:
        name: an unknown name.
        candidates: valid names.
        count: number of candidates to propose, at most.

    Returns:
        ``; did you mean NAME?``, or an empty text if no candidate is similar.
    """
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=0.5)
    return f"; did you mean {', '.join(by_lower[match] for match in close)}?" if close else ""
