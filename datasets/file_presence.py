"""Which files of a list exist, at the price of one directory listing for each folder that the list names."""

import os
from collections.abc import Iterable


def absent_files(paths: Iterable[str]) -> list[str]:
    """The paths that no directory lists, in the order given.

    A ``stat`` for every file costs a round trip each on a network disk; a listing answers for the folder.
    """
    listings: dict[str, frozenset[str]] = {}
    absent = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in listings:
            listings[folder] = _listing(folder)
        if name not in listings[folder]:
            absent.append(path)
    return absent


def _listing(folder: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208 (names only)
    except OSError:
        return frozenset()
