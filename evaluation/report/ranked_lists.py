"""Ranked lists: which queries to show, and the first gallery items of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from evaluation.retrieval.inputs import Retrieval, check_count
from evaluation.retrieval.knn import ranked_items
from utils.errors import ReidError

_SHUFFLE_SEED = 0


class Choice(NamedTuple):
    """One query of a selection: its group, its place in the group from 1, its row."""

    group: str
    place: int
    row: int


@dataclass(frozen=True)
class Selection:
    """Rows of the queries to show; no row occurs twice.

    Attributes:
        worst: lowest average precision, the worst first.
        median: around the median, in ascending order.
        best: highest average precision, the best first.
    """

    worst: tuple[int, ...]
    median: tuple[int, ...]
    best: tuple[int, ...]

    def __iter__(self) -> Iterator[Choice]:
        """All queries, group by group: worst, median, best."""
        for group in ("worst", "median", "best"):
            for place, row in enumerate(getattr(self, group), start=1):
                yield Choice(group, place, row)

    @property
    def rows(self) -> tuple[int, ...]:
        """All rows, in the order of iteration."""
        return self.worst + self.median + self.best


@dataclass(frozen=True, eq=False)
class RankedList:
    """The nearest gallery items of one query, nearest first, at most k.

    Attributes:
        query_row: position among the queries.
        gallery_rows: (K,) int64 positions in the gallery; K < k if the gallery has no more items.
        distances: (K,) float64 cosine distances in [0, 2], ascending.
        matches: (K,) bool, whether an item shows the query's person.
    """

    query_row: int
    gallery_rows: np.ndarray
    distances: np.ndarray
    matches: np.ndarray


def select_queries(average_precision: np.ndarray, max_number: int) -> Selection:
    """Choose the worst, the median and the best queries, about a third each.

    Queries of equal average precision (often very many have 1) are in a fixed shuffled order: in the order of their
    rows they would be images of one person.

    Args:
        average_precision: (Q,) floating point; a query without a match, NaN, is never chosen.
        max_number: how many queries at most; the thirds are filled in the order worst, best, median.

    Returns:
        The same selection for the same arguments.

    Raises:
        ReidError: if ``max_number`` is not an integer of 1 or more.
    """
    check_count("max_number", max_number)
    precision = np.asarray(average_precision, dtype=np.float64)
    shuffled = np.random.default_rng(_SHUFFLE_SEED).permutation(len(precision))
    order = np.lexsort((shuffled, precision))  # NaN last
    order = order[: int(np.isfinite(precision).sum())]
    number = min(max_number, len(order))
    num_worst, num_best = (number + 2) // 3, (number + 1) // 3
    num_median = number - num_worst - num_best
    # Centered at the lower of the two middle places; the worst and the best take the ends.
    start = min(max((len(order) - num_median) // 2, num_worst), len(order) - num_best - num_median)
    return Selection(
        worst=tuple(order[:num_worst].tolist()),
        median=tuple(order[start : start + num_median].tolist()),
        best=tuple(order[::-1][:num_best].tolist()),
    )


def ranked_lists(retrieval: Retrieval, rows: Sequence[int], *, k: int, camera_rule: bool) -> list[RankedList]:
    """The first ``k`` gallery items for some of the queries, by the rules of the reported figures.

    As in :func:`evaluation.ranking.evaluate_ranking`, the distance is the cosine distance, the camera rule removes
    items of the query's person and camera, and at a tie every item that is not a match comes first. Only the
    distances of ``rows`` are computed, a block of them at a time.

    Args:
        retrieval: query and gallery.
        rows: positions of the queries, from 0.
        k: items per list.
        camera_rule: remove the gallery images of the query's person from the query's camera.

    Returns:
        One list per entry of ``rows``, in their order.

    Raises:
        ReidError: if ``k`` or a row is out of range.
    """
    check_count("k", k)
    num_queries = len(retrieval.query)
    for row in rows:
        if not 0 <= row < num_queries:
            raise ReidError(
                f"rows must be positions of queries, 0 to {num_queries - 1}, got {row}; take them from "
                f"select_queries of the same queries"
            )
    if not rows:
        return []
    ranked = ranked_items(retrieval.select(rows), k, camera_rule)
    distances = ranked.values.double().add(1.0).clamp(0.0, 2.0)
    columns = (column.cpu().numpy() for column in (distances, ranked.items, ranked.matches))
    return [
        RankedList(row, items[:count], near[:count], matches[:count])
        for row, near, items, matches, count in zip(rows, *columns, ranked.counts.tolist(), strict=True)
    ]
