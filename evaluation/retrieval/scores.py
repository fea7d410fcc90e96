"""Scores of each query from the ranks of its matches, which are counted and not read from a sorted gallery."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

MatchFilter = Callable[[slice, Tensor], Tensor]
"""Query rows and (rows, M) positions of items of their identities -> (rows, M) bool, which items are matches."""


class SameIdentity:
    """Positions of the items that share a query's identity, from one sort of the identities.

    Attributes:
        counts: (Q,) int64, number of such items of each query.
        largest_count: the largest of these numbers.
        num_items: number of all items.
    """

    def __init__(self, query_ids: Tensor, item_ids: Tensor) -> None:
        ids, self._order = item_ids.sort(stable=True)
        self._start = torch.searchsorted(ids, query_ids)
        self.counts = torch.searchsorted(ids, query_ids, right=True) - self._start
        self.largest_count, self.num_items = _largest(self.counts), len(item_ids)

    def __call__(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Positions (rows, M), and which of them exist, (rows, M) bool; M is the largest number of these queries.

        A position that does not exist holds some valid position.
        """
        counts = self.counts[rows]
        offset = torch.arange(_largest(counts), device=counts.device)
        place = (self._start[rows, None] + offset).clamp_max(self.num_items - 1)
        return self._order[place], offset < counts[:, None]


@dataclass(frozen=True, eq=False)
class Pairs:
    """The items of each query's identity, and which of them are its matches.

    Attributes:
        same_identity: the items of each query's identity.
        match_filter: which of them are matches; the others are removed from the gallery for this query. None = all of
            them are matches.
    """

    same_identity: SameIdentity
    match_filter: MatchFilter | None = None

    def __call__(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Positions, which of them exist, and which are matches, each (rows, M)."""
        positions, exists = self.same_identity(rows)
        return positions, exists, exists & self.match_filter(rows, positions) if self.match_filter else exists

    @property
    def scoring_bytes(self) -> int:
        """Memory that scoring needs for each query, beside its distances."""
        # The CPU sorts a row in place. Another device needs a copy, its indices, and as much again to work.
        on_cpu = self.same_identity.counts.device.type == "cpu"
        return 64 * self.same_identity.largest_count + (0 if on_cpu else 32 * self.same_identity.num_items)


class QueryScores(NamedTuple):
    """Scores of each query, on the CPU.

    Attributes:
        average_precision: (Q,) float64, mean of the precision at each match; NaN without a match.
        inverse_negative_penalty: (Q,) float64, matches / rank of the last match; NaN without a match.
        first_match_rank: (Q,) int64, counted from 1; 0 without a match.
        num_matches: (Q,) int64.
    """

    average_precision: np.ndarray
    inverse_negative_penalty: np.ndarray
    first_match_rank: np.ndarray
    num_matches: np.ndarray


def score_queries(pairs: Pairs, blocks: Iterable[tuple[slice, Tensor]]) -> QueryScores:
    """Scores of all queries, one block of them after the other.

    Args:
        pairs: the matches of each query.
        blocks: rows of the query, in order, each with their (rows, G) distances, or with values of the same order.
            They are overwritten, and released before the next block is requested.
    """
    parts = []
    for rows, distances in blocks:
        parts.append(_block_scores(pairs, rows, distances))
        del distances  # else two blocks would be in memory while the next one is computed
    return QueryScores(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _block_scores(pairs: Pairs, rows: slice, distances: Tensor) -> QueryScores:
    positions, exists, is_match = pairs(rows)
    own_distances = distances.gather(1, positions)
    ranks = _match_ranks(
        distances,
        own_distances.masked_fill(~exists, float("inf")),
        own_distances.masked_fill(~is_match, float("inf")),
        pairs.same_identity.counts[rows],
    )
    return _scores(ranks, is_match.sum(1))


def _match_ranks(distances: Tensor, own: Tensor, matches: Tensor, num_own: Tensor) -> Tensor:
    """Ranks (rows, M) of the matches in ascending order; entries beyond the number of matches have no meaning.

    The rank of the i-th nearest match is i plus the number of items of other identities that are not farther.
    Equal ones count too, so a match never gains from a tie. ``distances`` is overwritten.
    """
    matches = _sort_rows(matches)
    # An absent item is infinitely far; the cap prevents that it counts where a match is infinitely far too.
    own_before = torch.searchsorted(_sort_rows(own), matches, right=True)
    own_before = torch.minimum(own_before, num_own[:, None])
    before = torch.searchsorted(_sort_rows(distances), matches, right=True)
    return before - own_before + torch.arange(1, matches.shape[1] + 1, device=matches.device)


def _sort_rows(values: Tensor) -> Tensor:
    """Sort each row, in place on the CPU.

    numpy's sort of bare values is vectorized and costs a tenth of the product that made the values; torch's sort
    carries the indices along and costs several products.
    """
    if values.device.type != "cpu":
        return values.sort(dim=1).values
    threads = min(torch.get_num_threads(), max(1, values.numel() // 2**16))
    parts = np.array_split(values.numpy(), threads)
    if threads == 1:
        parts[0].sort(axis=1)
        return values
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda part: part.sort(axis=1), parts))
    return values


def _scores(ranks: Tensor, num_matches: Tensor) -> QueryScores:
    places = np.arange(1, ranks.shape[1] + 1)
    rank, count = ranks.cpu().numpy(), num_matches.cpu().numpy()
    has_match = count > 0
    if not has_match.any():
        missing = np.full(len(count), np.nan)
        return QueryScores(missing, missing, np.zeros(len(count), dtype=np.int64), count)
    # Ranks of absent matches may be below one, so only present matches are divided.
    precision = np.divide(places, rank, out=np.zeros(rank.shape), where=places <= count[:, None])
    average = np.full(len(count), np.nan)
    np.divide(precision.sum(1), count, out=average, where=has_match)
    penalty = np.full(len(count), np.nan)
    last = rank[np.arange(len(count)), np.maximum(count, 1) - 1]
    np.divide(count, last, out=penalty, where=has_match)
    return QueryScores(average, penalty, np.where(has_match, rank[:, 0], 0), count)


def _largest(counts: Tensor) -> int:
    return int(counts.max()) if len(counts) else 0
