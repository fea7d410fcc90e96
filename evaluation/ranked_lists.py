"""Ranked lists to look at: which queries to show, and the first gallery items that each of them finds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from evaluation.inputs import check_count, check_inputs
from evaluation.nearest_items import nearest_items
from utils.errors import ReidError
from utils.precision import full_precision

_SHUFFLE_SEED = 0


class LabelledImage(Protocol):
    """What a ranked list shows of an image."""

    @property
    def path(self) -> Path:
        """The image file."""

    @property
    def person_id(self) -> int:
        """The identity; 0 = distractor."""

    @property
    def camera_id(self) -> int:
        """The camera."""


class Chosen(NamedTuple):
    """One query of a selection: its group, its place in the group from 1, its row."""

    group: str
    place: int
    row: int


@dataclass(frozen=True)
class Selection:
    """Rows of the queries to look at; no row occurs twice.

    Attributes:
        worst: lowest average precision, the worst first.
        median: around the median, in ascending order.
        best: highest average precision, the best first.
    """

    worst: tuple[int, ...]
    median: tuple[int, ...]
    best: tuple[int, ...]

    def __iter__(self) -> Iterator[Chosen]:
        """All chosen queries, group by group: worst, median, best."""
        for group in ("worst", "median", "best"):
            for place, row in enumerate(getattr(self, group), start=1):
                yield Chosen(group, place, row)

    @property
    def rows(self) -> tuple[int, ...]:
        """All rows, in the order of iteration."""
        return self.worst + self.median + self.best


@dataclass(frozen=True, eq=False)
class RankedList:
    """The nearest gallery items of one query, nearest first, at most k.

    Attributes:
        query_row: position among the queries.
        gallery_rows: (K,) int64 positions in the gallery; K < k where the gallery has no more to offer.
        distances: (K,) float64 cosine distances in [0, 2], ascending.
        matches: (K,) bool, whether an item shows the query's person.
    """

    query_row: int
    gallery_rows: np.ndarray
    distances: np.ndarray
    matches: np.ndarray


def select_queries(average_precision: np.ndarray, max_number: int) -> Selection:
    """Choose the worst, the median and the best queries, about a third each.

    Queries of equal average precision (often very many have 1) come in a fixed shuffled order: by row they
    would be images of one person.

    Args:
        average_precision: (Q,) floating point; a query without a match, NaN, is never chosen.
        max_number: how many queries at most; the thirds are filled in the order worst, best, median.

    Returns:
        The same selection for the same arguments.

    Raises:
        ReidError: if ``max_number`` is no integer of 1 or more.
    """
    check_count("max_number", max_number)
    precision = np.asarray(average_precision, dtype=np.float64)
    shuffled = np.random.default_rng(_SHUFFLE_SEED).permutation(len(precision))
    order = np.lexsort((shuffled, precision))  # NaN last
    order = order[: int(np.isfinite(precision).sum())]
    number = min(max_number, len(order))
    num_worst, num_best = (number + 2) // 3, (number + 1) // 3
    num_median = number - num_worst - num_best
    # The lower of the two middle places, as many after it as before; the ends are others' places.
    start = min(max((len(order) - num_median) // 2, num_worst), len(order) - num_best - num_median)
    return Selection(
        worst=tuple(order[:num_worst].tolist()),
        median=tuple(order[start : start + num_median].tolist()),
        best=tuple(order[::-1][:num_best].tolist()),
    )


def ranked_lists(
    query: Tensor,
    gallery: Tensor,
    query_labels: Sequence[LabelledImage],
    gallery_labels: Sequence[LabelledImage],
    rows: Sequence[int],
    *,
    k: int,
    camera_rule: bool,
) -> list[RankedList]:
    """The first ``k`` gallery items for some of the queries, by the rules of the reported figures.

    As in :func:`evaluation.ranking.evaluate_ranking`: cosine distance, items of the query's person from the
    query's camera left out under the camera rule, and at a tie every item that is no match first. Only the
    distances of ``rows`` are computed, a block of them at a time.

    Args:
        query: (Q, D) floating point.
        gallery: (G, D) floating point.
        query_labels: Q images; of those in ``rows`` the identities must be positive.
        gallery_labels: G images.
        rows: which queries, positions from 0.
        k: items per list.
        camera_rule: leave out the gallery images of the query's person from the query's camera.

    Returns:
        One list per entry of ``rows``, in that order.

    Raises:
        ReidError: if ``k`` or a row is out of range, or features and labels do not fit one another.
    """
    check_count("k", k)
    _check_rows(rows, len(query), len(query_labels))
    if not rows:
        return []
    asked = [query_labels[row] for row in rows]
    inputs = check_inputs(
        query[list(rows)],
        gallery,
        [label.person_id for label in asked],
        [label.person_id for label in gallery_labels],
        [label.camera_id for label in asked],
        [label.camera_id for label in gallery_labels],
    )
    with full_precision(inputs.gallery.device):
        found = nearest_items(inputs, k, camera_rule)
    distances = found.values.double().add(1.0).clamp(0.0, 2.0)
    columns = (column.cpu().numpy() for column in (distances, found.items, found.matches))
    return [
        RankedList(row, items[:count], near[:count], matches[:count])
        for row, near, items, matches, count in zip(rows, *columns, found.counts.tolist(), strict=True)
    ]


def _check_rows(rows: Sequence[int], num_queries: int, num_labels: int) -> None:
    if num_queries != num_labels:
        raise ReidError(
            f"query_labels must have one entry per feature, got {num_labels} for {num_queries}; pass labels "
            f"and features in the same order and number"
        )
    for row in rows:
        if not 0 <= row < num_queries:
            raise ReidError(
                f"rows must be positions of queries, 0 to {num_queries - 1}, got {row}; take them from "
                f"select_queries of the same queries"
            )
