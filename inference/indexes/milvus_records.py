"""What Milvus stores with vectors, and what a search in it gives."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from inference.indexes.base import NOT_FOUND
from utils.errors import ReidError

LONGEST_PATH = 4096  # bytes


class Records(NamedTuple):
    """What is stored with vectors; all arrays have one shape, (N,) of N images or (Q, k) of a search.

    Attributes:
        paths: the keys: an image replaces the earlier one of its path. Empty where a search could not fill a place.
        person_ids: integers.
        camera_ids: integers.
        positions: integers, places among the embeddings on disk; :data:`NOT_FOUND` where there are none.
    """

    paths: Sequence[str] | np.ndarray
    person_ids: np.ndarray
    camera_ids: np.ndarray
    positions: np.ndarray


class Matches(NamedTuple):
    """The k nearest images of each of Q queries, nearest first; an infinite distance where there are fewer.

    Attributes:
        distances: (Q, k) float32, as those of :class:`inference.indexes.base.SearchResult`.
        records: with arrays of (Q, k).
    """

    distances: np.ndarray
    records: Records


def no_matches(num_queries: int, k: int) -> Matches:
    """The matches of Q queries before any is known."""
    shape = (num_queries, k)
    numbers = [np.full(shape, NOT_FOUND, np.int64) for _ in range(3)]
    return Matches(np.full(shape, np.inf, np.float32), Records(np.full(shape, "", object), *numbers))


def check_records(number: int, records: Records) -> None:
    """Refuse records that Milvus cannot store with so many vectors.

    Raises:
        ReidError: if their lengths differ, or a path is empty, too long or no text.
    """
    lengths = [len(column) for column in records]
    if lengths != [number] * len(lengths):
        raise ReidError(f"records must have one entry for each of {number} vectors, got {lengths}; give all of them")
    for path in map(str, records.paths):
        if not path.isascii() and path != path.encode("utf-8", "ignore").decode():
            raise ReidError(f"paths must be UTF-8 in Milvus, got {path[:80]!r}; rename the file, or use flat")
        if not 0 < len(path.encode("utf-8")) <= LONGEST_PATH:
            raise ReidError(f"paths must have 1 to {LONGEST_PATH} bytes, got {path[:80]!r}; rename the file")
