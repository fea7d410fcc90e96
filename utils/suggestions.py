"""What the user may have meant by a name that is none."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, candidates: Iterable[str], count: int = 1) -> str:
    """Words for the end of a message that propose the candidates most like ``name``, whatever its case.

    Args:
        name: that was given.
        candidates: valid names.
        count: how many to propose at most.

    Returns:
        ``; did you mean NAME?``, or nothing where no candidate is near.
    """
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=0.5)
    return f"; did you mean {', '.join(by_lower[match] for match in close)}?" if close else ""
