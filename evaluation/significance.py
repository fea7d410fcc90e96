"""How sure a mean over queries is: bootstrap intervals and a paired permutation test, both by identity.

Queries of one person are not independent: whoever is hard to find is hard to find from every camera. So identities
are drawn, not queries, and each brings all of its queries (the cluster bootstrap: Davison and Hinkley, Bootstrap
Methods and their Application, 1997, section 3.8). Both procedures need nothing but sums over the queries of each
identity, so a block of resamples is one small product of matrices.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from utils.blocks import row_blocks

CONFIDENCE = 0.95
"""Of the intervals."""

_SHARE = 0.25  # of the memory budget, for one block of resamples
_BYTES = 40  # for each identity of a resample: its draw, its place in the counts, its count, and copies of these
_TOLERANCE = 1e-9  # relative; a permutation that equals the observed sum may differ from it in the last bits


class Interval(NamedTuple):
    """The ends of an interval."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class IdentitySums:
    """Values of queries, summed over the queries of each identity.

    Attributes:
        sums: (I, S) float64, of S values per query.
        counts: (I,) float64, queries of each identity, at least 1.
    """

    sums: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, identities: np.ndarray) -> "IdentitySums":
        """Sum the values of Q queries.

        Args:
            values: (Q, S).
            identities: (Q,) integers.
        """
        _, index, counts = np.unique(identities, return_inverse=True, return_counts=True)
        columns = [np.bincount(index, column, len(counts)) for column in np.asarray(values, dtype=np.float64).T]
        return cls(np.stack(columns, axis=1), counts.astype(np.float64))

    def means(self) -> np.ndarray:
        """(S,) means over all queries."""
        means: np.ndarray = self.sums.sum(0) / self.counts.sum()
        return means


def bootstrap_means(values: IdentitySums, resamples: int, seed: int) -> np.ndarray:
    """Means over the queries of as many identities as there are, drawn with replacement, again and again.

    Values that stand in one :class:`IdentitySums` see the same draws, so the difference of two columns is paired.

    Args:
        values: of I identities, S columns.
        resamples: R, how often.
        seed: of the draws.

    Returns:
        (R, S) float64: in each resample the mean over the queries drawn, whose number varies.
    """
    num_ids, num_values = values.sums.shape
    rng, result = np.random.default_rng(seed), np.empty((resamples, num_values))
    for rows in _blocks(resamples, num_ids):
        draws = rng.integers(num_ids, size=(rows.stop - rows.start, num_ids))
        draws += num_ids * np.arange(len(draws))[:, None]
        times = np.bincount(draws.ravel(), minlength=draws.size).reshape(draws.shape).astype(np.float64)
        result[rows] = (times @ values.sums) / (times @ values.counts)[:, None]
    return result


def intervals(samples: np.ndarray) -> list[Interval]:
    """The percentile interval of each column, which holds :data:`CONFIDENCE` of its samples (R, S)."""
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(samples, [tail, 100 - tail], axis=0)
    return [Interval(*ends) for ends in zip(low.tolist(), high.tolist(), strict=True)]


def permutation_p_values(differences: IdentitySums, resamples: int, seed: int) -> np.ndarray:
    """How often chance alone makes a mean difference as large as the observed one, of either sign.

    If two models are alike, it is chance which of them answered which: exchanging their answers to all queries of a
    person changes the sign of that person's differences. Each resample does so for a random half of the identities.

    Args:
        differences: of two models, per query; I identities, S columns.
        resamples: R, how often.
        seed: of the signs.

    Returns:
        (S,) float64 p-values, (1 + resamples that are as large) / (1 + R), at least 1 / (1 + R).
    """
    observed = np.abs(differences.sums.sum(0)) - _TOLERANCE * np.abs(differences.sums).sum(0)
    rng, as_large = np.random.default_rng(seed), np.zeros(differences.sums.shape[1], dtype=np.int64)
    for rows in _blocks(resamples, len(differences.sums)):
        signs = np.where(rng.random((rows.stop - rows.start, len(differences.sums))) < 0.5, -1.0, 1.0)
        as_large += (np.abs(signs @ differences.sums) >= observed).sum(0)
    p_values: np.ndarray = (1 + as_large) / (1 + resamples)
    return p_values


def _blocks(resamples: int, num_ids: int) -> Iterator[slice]:
    return row_blocks(resamples, _BYTES * num_ids, _SHARE)
