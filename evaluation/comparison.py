"""Compare tests of several models: figures with intervals, seeds of one setting together, and paired differences."""

import string
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from evaluation.runs import PER_QUERY, Run, check_alike, differing_settings, group_runs
from evaluation.significance import IdentitySums, Interval, bootstrap_means, intervals, permutation_p_values
from utils.errors import ReidError

_FEW_IDENTITIES = 30


class Figure(NamedTuple):
    """A figure in [0, 1], or a difference of two of them.

    Attributes:
        value: the mean over the queries.
        interval: by which other people as queries would move it.
        deviation: over seeds; None for a single run and for a difference.
        p_value: of a difference.
    """

    value: float
    interval: Interval
    deviation: float | None = None
    p_value: float | None = None


@dataclass(frozen=True)
class Group:
    """Runs of one setting, which differ in their seed, or a single run.

    Attributes:
        name: in the tables.
        runs: of the group.
        figures: by name.
    """

    name: str
    runs: tuple[Run, ...]
    figures: Mapping[str, Figure]


@dataclass(frozen=True)
class Difference:
    """The second group minus the first one.

    Attributes:
        first: name of a group.
        second: name of another.
        figures: by name.
    """

    first: str
    second: str
    figures: Mapping[str, Figure]

    @property
    def name(self) -> str:
        """In the tables."""
        return f"{self.second} - {self.first}"


@dataclass(frozen=True)
class Comparison:
    """All groups on one data set under one protocol.

    Attributes:
        dataset: its name.
        row: of the reports.
        num_queries: queries with a match.
        num_identities: people among them.
        resamples: of intervals and p-values.
        groups: in the order of the command line.
        differences: of each pair of groups.
        settings: key -> its value in each group; None = unknown or not set.
        notes: what a reader must know.
    """

    dataset: str
    row: str
    num_queries: int
    num_identities: int
    resamples: int
    groups: tuple[Group, ...]
    differences: tuple[Difference, ...]
    settings: Mapping[str, tuple[Any, ...]]
    notes: tuple[str, ...] = field(default=())


def compare(
    runs: Sequence[Run], *, resamples: int, seed: int, names: Sequence[str] = (), ignore: Collection[str] = ()
) -> Comparison:
    """Compare runs on one data set under one protocol.

    The values of a query are averaged over the runs of a group first. So an interval or a p-value of a group speaks
    of the choice of people and their queries, for these trained models; by how much another seed moves a figure is
    not in it, and stands beside it as the deviation over the seeds.

    Args:
        runs: one or more.
        resamples: of intervals and p-values.
        seed: of the draws.
        names: of the groups; empty = A, B, ...
        ignore: settings that shall not tell groups apart.

    Raises:
        ReidError: if the runs were not tested alike, if the names are not one per group, or if no run has a setting
            of ``ignore``.
    """
    check_alike(runs)
    groups, notes = group_runs(runs, ignore)
    labels = _labels(groups, names)
    values = [np.mean([run.values() for run in group], axis=0) for group in groups]
    identities = runs[0].identities()
    sums = IdentitySums.of(np.concatenate(values, axis=1), identities)
    shape = (-1, len(groups), len(PER_QUERY))
    means, samples = sums.means().reshape(shape)[0], bootstrap_means(sums, resamples, seed).reshape(shape)
    pairs = list(combinations(range(len(groups)), 2))
    differences = [
        Difference(
            labels[first],
            labels[second],
            _figures(
                means[second] - means[first],
                samples[:, second] - samples[:, first],
                p_values=permutation_p_values(
                    IdentitySums.of(values[second] - values[first], identities), resamples, seed
                ).tolist(),
            ),
        )
        for first, second in pairs
    ]
    if (num_ids := len(sums.counts)) < _FEW_IDENTITIES:
        notes.append(f"only {num_ids} people have queries: the intervals of so few are too narrow, and say little.")
    if len(pairs) > 1:
        notes.append(f"{len(pairs)} pairs are compared, and no p-value is corrected for that.")
    return Comparison(
        runs[0].dataset,
        runs[0].protocol.row,
        len(identities),
        num_ids,
        resamples,
        tuple(
            Group(label, tuple(group), _figures(means[number], samples[:, number], deviations=_deviations(group)))
            for number, (label, group) in enumerate(zip(labels, groups, strict=True))
        ),
        tuple(differences),
        differing_settings([group[0] for group in groups], ignore),
        tuple(notes),
    )


def _figures(
    means: np.ndarray,
    samples: np.ndarray,
    deviations: Sequence[float | None] = (None,) * len(PER_QUERY),
    p_values: Sequence[float | None] = (None,) * len(PER_QUERY),
) -> dict[str, Figure]:
    columns = zip(means.tolist(), intervals(samples), deviations, p_values, strict=True)
    return {name: Figure(*column) for name, column in zip(PER_QUERY, columns, strict=True)}


def _deviations(group: Sequence[Run]) -> Sequence[float | None]:
    """The standard deviation of each figure over the runs (of a sample: n - 1)."""
    if len(group) == 1:
        return (None,) * len(PER_QUERY)
    deviations: list[float | None] = np.std([run.values().mean(0) for run in group], axis=0, ddof=1).tolist()
    return deviations


def _labels(groups: Sequence[Sequence[Run]], names: Sequence[str]) -> list[str]:
    if names and (len(names) != len(groups) or len(set(names)) != len(names)):
        reports = "; ".join(" + ".join(str(run.path) for run in group) for group in groups)
        raise ReidError(
            f"--names must be a name of its own for each of {len(groups)} groups ({reports}), got {', '.join(names)}"
        )
    letters = [*string.ascii_uppercase, *(str(number) for number in range(27, len(groups) + 1))]
    return list(names) or letters[: len(groups)]
