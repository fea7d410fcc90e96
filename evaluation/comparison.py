"""Compare tests of several models: figures with intervals, seeds of one setting together, and paired differences."""

import string
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evaluation.report.queries import QueryResults
from evaluation.results import EvaluationProtocol
from evaluation.significance import IdentitySums, Interval, bootstrap_means, intervals, permutation_p_values
from utils.errors import ReidError, did_you_mean

SEED = "REPRODUCIBLE_SEED"
"""The setting in which the runs of one group differ."""

PER_QUERY: dict[str, Callable[[QueryResults], np.ndarray]] = {
    "mAP": lambda queries: queries.average_precision,
    "mINP": lambda queries: queries.inverse_negative_penalty,
    "rank-1": lambda queries: queries.first_match_rank <= 1,
    "rank-5": lambda queries: queries.first_match_rank <= 5,
    "rank-10": lambda queries: queries.first_match_rank <= 10,
}
"""Figure -> the value of each query with a match, whose mean is the figure."""

_FEW_IDENTITIES = 30


@dataclass(frozen=True, eq=False)
class Run:
    """One row of the report of one model.

    Attributes:
        path: of the report.
        dataset: on which the model was tested.
        protocol: of the row.
        checkpoint: path of the weights, as the report has it.
        settings: what decided the figures, by key; empty = unknown.
        resolutions: the pixels of the images in words.
        num_gallery: items of the gallery.
        queries: results of each query.
    """

    path: Path
    dataset: str
    protocol: EvaluationProtocol
    checkpoint: str
    settings: Mapping[str, Any]
    resolutions: str
    num_gallery: int
    queries: QueryResults

    @property
    def seed(self) -> object:
        """Of the training; None = unknown."""
        return self.settings.get(SEED)

    def values(self) -> np.ndarray:
        """(V, S) float64, the values of the queries with a match, in the order of :meth:`order`."""
        columns = [figure(self.queries) for figure in PER_QUERY.values()]
        return np.stack(columns, axis=1).astype(np.float64)[self.order()]

    def order(self) -> np.ndarray:
        """(V,) the queries with a match, sorted by name, identity and camera: the same images in each run."""
        keys = self.keys()
        rows = sorted(range(len(keys)), key=keys.__getitem__)
        return np.array([row for row in rows if self.queries.num_matches[row]], dtype=np.int64)

    def keys(self) -> list[tuple[str, int, int]]:
        """What tells each query from the others, wherever the data set lies."""
        queries = self.queries
        return list(zip(queries.names(), queries.identities.tolist(), queries.cameras.tolist(), strict=True))


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

    The values of a query are averaged over the runs of a group first. So an interval or a p-value of a group speaks of
    the choice of people and their queries, for these trained models; by how much another seed moves a figure is not
    in it, and stands beside it as the deviation over the seeds.

    Args:
        runs: one or more.
        resamples: of intervals and p-values.
        seed: of the draws.
        names: of the groups; empty = A, B, ...
        ignore: settings that shall not tell groups apart.

    Raises:
        ReidError: if the runs were not tested alike, if the names are not one per group, or if no run has a setting of
            ``ignore``.
    """
    check_alike(runs)
    groups, notes = group_runs(runs, ignore)
    labels = _labels(groups, names)
    values = [np.mean([run.values() for run in group], axis=0) for group in groups]
    identities = runs[0].queries.identities[runs[0].order()]
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
        notes.append(
            f"only {num_ids} people have queries: intervals of so few are too narrow, and differences hardly ever count."
        )
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
        differing_settings([group[0] for group in groups]),
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


def group_runs(runs: Sequence[Run], ignore: Collection[str] = ()) -> tuple[list[list[Run]], list[str]]:
    """Put together the runs whose settings differ in the seed alone.

    Runs of unknown settings stand alone. So do those of equal settings if two of them have one seed: they are no
    seeds of a setting, but a repetition, or something that settings do not tell.

    Args:
        runs: of one protocol.
        ignore: settings that shall not tell groups apart.

    Returns:
        The groups in the order of their first runs, and notes for the reader.

    Raises:
        ReidError: if no run has a setting of ``ignore``.
    """
    known = {key for run in runs for key in run.settings}
    if absent := [key for key in ignore if key not in known]:
        raise ReidError(
            f"--ignore must be a setting that a report has, got {absent[0]}{did_you_mean(absent[0], known)}; "
            "its entry settings lists them"
        )
    by_setting: dict[object, list[Run]] = {}
    for number, run in enumerate(runs):
        values = [f"{key}={run.settings[key]!r}" for key in sorted(run.settings) if key not in (SEED, *ignore)]
        key = (run.resolutions, *values) if values else number
        by_setting.setdefault(key, []).append(run)
    groups, notes = list[list[Run]](), list[str]()
    for group in by_setting.values():
        if len({repr(run.seed) for run in group}) == len(group):
            groups.append(group)
        else:
            groups += [[run] for run in group]
            notes.append(
                f"{', '.join(str(run.path) for run in group)} have the same settings, and two of them the same seed: "
                "they are not taken for seeds of one setting."
            )
    if any(not run.settings for run in runs) and len(runs) > 1:
        notes.append("reports without settings (of other weights, or of an earlier version) stand alone.")
    return sorted(groups, key=lambda group: runs.index(group[0])), notes


def differing_settings(runs: Sequence[Run]) -> dict[str, tuple[Any, ...]]:
    """The settings that are not alike in all runs of known settings, each with its values; None = not set."""
    rows = [{**run.settings, "pixels": run.resolutions} if run.settings else {} for run in runs]
    keys = dict.fromkeys(key for row in rows for key in row if key != SEED)
    values = {key: tuple(row.get(key) for row in rows) for key in keys}
    return {
        key: row
        for key, row in values.items()
        if len({repr(value) for value, known in zip(row, rows, strict=True) if known}) > 1
    }


def check_alike(runs: Iterable[Run]) -> None:
    """Refuse runs that were not tested alike.

    Raises:
        ReidError: if data set, protocol, queries or gallery differ; the message names the reports and the difference.
    """
    first, *others = runs
    keys = sorted(first.keys())
    matches = first.queries.num_matches[sorted(range(len(keys)), key=first.keys().__getitem__)]
    for run in others:
        if difference := _difference(first, run, keys, matches):
            raise ReidError(
                f"figures that stand beside one another must be of one data set and protocol, but {first.path} and "
                f"{run.path} differ in {difference}"
            )


def _difference(first: Run, run: Run, keys: list[tuple[str, int, int]], matches: np.ndarray) -> str:
    """In words, what makes two runs unlike; empty if they are alike."""
    if first.dataset != run.dataset:
        return f"the data set ({first.dataset}, {run.dataset}); compare each set by itself"
    if first.protocol != run.protocol:
        both = f"{first.protocol.row}, {run.protocol.row}"
        if first.protocol.row == run.protocol.row:
            both = f"{first.protocol.as_dict()['parameters']}, {run.protocol.as_dict()['parameters']}"
        return f"the protocol ({both}); test both alike, or choose a row that both have by --row"
    own = run.keys()
    order = sorted(range(len(own)), key=own.__getitem__)
    if [own[row] for row in order] != keys:
        return f"their queries ({len(keys)} and {len(own)} images of different names); test both on the same images"
    if first.num_gallery != run.num_gallery or not np.array_equal(matches, run.queries.num_matches[order]):
        return "the gallery (its size, or the matches of a query); test both on the same images"
    return ""
