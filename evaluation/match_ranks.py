"""Rank of each match of a query, counted instead of sorted out of the gallery."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Keep = Callable[[slice, Tensor], Tensor]
"""From query rows and (rows, M) positions of items of their own identity to (rows, M) bool: a match."""


class QueryScores(NamedTuple):
    """Scores of each query, on the CPU.

    Attributes:
        average_precision: (Q,) float64, mean of the precision at each match; NaN without a match.
        inverse_negative_penalty: (Q,) float64, matches / rank of the last match; NaN without a match.
        first_match_rank: (Q,) int64, counted from 1; 0 without a match.
    """

    average_precision: np.ndarray
    inverse_negative_penalty: np.ndarray
    first_match_rank: np.ndarray


class OwnItems:
    """Positions of the items that share a query's identity, found by one sort of the identities."""

    def __init__(self, query_ids: Tensor, item_ids: Tensor) -> None:
        ids, self._order = item_ids.sort(stable=True)
        self._start = torch.searchsorted(ids, query_ids)
        self.counts = torch.searchsorted(ids, query_ids, right=True) - self._start
        self.most = _most(self.counts)

    def __call__(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Positions (rows, M) and whether they exist (rows, M) bool; M is the most any of these queries has.

        A position that does not exist is any valid one.
        """
        counts = self.counts[rows]
        offset = torch.arange(_most(counts), device=counts.device)
        place = (self._start[rows, None] + offset).clamp_max(len(self._order) - 1)
        return self._order[place], offset < counts[:, None]


def _most(counts: Tensor) -> int:
    return int(counts.max()) if len(counts) else 0


def score_queries(blocks: Iterable[tuple[slice, Tensor]], own: OwnItems, keep: Keep) -> QueryScores:
    """Scores of all queries, one block of them after the other.

    Args:
        blocks: rows of the query, in order, each with their (rows, G) distances or anything that grows with
            them. The distances are overwritten, and let go before the next block is asked for.
        own: the items of each query's identity.
        keep: which of those are matches; the others are removed from the gallery for this query.
    """
    parts = []
    for rows, distances in blocks:
        parts.append(_block_scores(rows, distances, own, keep))
        del distances  # or two blocks would be in memory while the next one is made
    return QueryScores(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _block_scores(rows: slice, distances: Tensor, own: OwnItems, keep: Keep) -> QueryScores:
    positions, present = own(rows)
    is_match = keep(rows, positions) & present
    own_distances = distances.gather(1, positions)
    ranks = _match_ranks(
        distances,
        own_distances.masked_fill(~present, float("inf")),
        own_distances.masked_fill(~is_match, float("inf")),
        own.counts[rows],
    )
    return _scores(ranks, is_match.sum(1))


def _match_ranks(distances: Tensor, own: Tensor, matches: Tensor, num_own: Tensor) -> Tensor:
    """Ranks (rows, M) of the matches in ascending order; beyond the number of matches without meaning.

    The rank of the i-th nearest match is i plus the number of kept items of other identities that are not
    farther: counting the equal ones too keeps a match from gaining by a tie. ``distances`` is overwritten.
    """
    matches = _sorted_rows(matches)
    # An absent item is infinitely far; the cap keeps it uncounted where a match is infinitely far too.
    own_before = torch.searchsorted(_sorted_rows(own), matches, right=True)
    own_before = torch.minimum(own_before, num_own[:, None])
    before = torch.searchsorted(_sorted_rows(distances), matches, right=True)
    return before - own_before + torch.arange(1, matches.shape[1] + 1, device=matches.device)


def _sorted_rows(values: Tensor) -> Tensor:
    """Sort each row, in place on the CPU.

    numpy's sort of bare values is vectorised: it costs a tenth of the product that made the values, where
    torch's, which carries the indices along, costs several products.
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
        return QueryScores(missing, missing, np.zeros(len(count), dtype=np.int64))
    # Ranks of absent matches may be below one, so only the present ones are divided.
    precision = np.divide(places, rank, out=np.zeros(rank.shape), where=places <= count[:, None])
    average = np.full(len(count), np.nan)
    np.divide(precision.sum(1), count, out=average, where=has_match)
    penalty = np.full(len(count), np.nan)
    last = rank[np.arange(len(count)), np.maximum(count, 1) - 1]
    np.divide(count, last, out=penalty, where=has_match)
    return QueryScores(average, penalty, np.where(has_match, rank[:, 0], 0))
