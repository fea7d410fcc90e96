from pathlib import Path

import numpy as np
import pytest

from evaluation.comparison import Comparison, compare
from evaluation.runs import Run
from evaluation.significance import IdentitySums, bootstrap_means, intervals, permutation_p_values
from tests.evaluation.support import images, run_at
from utils.errors import ReidError

QUERIES = images(40, 3)
FIGURES = ["mAP", "mINP", "rank-1", "rank-5", "rank-10"]


def run_of(folder: Path, seed: int, rate: float, worst: int) -> Run:
    """A model whose matches lie at ranks up to the worst one."""
    ranks = np.random.default_rng([seed, worst]).integers(1, worst + 1, len(QUERIES)).tolist()
    settings = {"LR": rate, "REPRODUCIBLE_SEED": seed}
    return run_at(folder / f"{rate}_{seed}", settings, ranks=ranks, queries=QUERIES)


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Three seeds of a good setting and two of a bad one."""
    return [run_of(tmp_path, seed, 0.1, 5) for seed in range(3)] + [
        run_of(tmp_path, seed, 0.2, 40) for seed in (0, 1)
    ]


def comparison_of(runs: list[Run], **more: object) -> Comparison:
    return compare(runs, **{"resamples": 500, "seed": 1, **more})  # type: ignore[arg-type]


def test_seeds_are_averaged_per_query_before_people_are_drawn(runs: list[Run]) -> None:
    comparison = comparison_of(runs)
    good, bad = comparison.groups
    assert (good.name, good.runs, bad.name, bad.runs) == ("A", tuple(runs[:3]), "B", tuple(runs[3:]))
    assert (comparison.dataset, comparison.row) == ("toy", "instance x1 -> x1")
    assert (comparison.num_queries, comparison.num_identities) == (120, 40)
    assert comparison.settings == {"LR": (0.1, 0.2)}
    assert comparison.notes == ()
    identities = runs[0].identities()
    for group in comparison.groups:
        per_seed = np.array([run.values() for run in group.runs])
        assert list(group.figures) == FIGURES
        expected = intervals(bootstrap_means(IdentitySums.of(per_seed.mean(0), identities), 500, 1))
        for number, figure in enumerate(group.figures.values()):
            single = per_seed[:, :, number].mean(1)
            assert figure.value == pytest.approx(single.mean())
            assert figure.deviation == pytest.approx(single.std(ddof=1))
            assert figure.interval == pytest.approx(expected[number])
            assert figure.p_value is None


def test_differences_are_paired(runs: list[Run]) -> None:
    comparison = comparison_of(runs)
    (pair,) = comparison.differences
    assert pair.name == "B - A"
    values = [np.mean([run.values() for run in group.runs], axis=0) for group in comparison.groups]
    sums = IdentitySums.of(values[1] - values[0], runs[0].identities())
    ends, p_values = intervals(bootstrap_means(sums, 500, 1)), permutation_p_values(sums, 500, 1)
    for number, figure in enumerate(pair.figures.values()):
        assert figure.value == pytest.approx(sums.means()[number])
        assert figure.interval == pytest.approx(ends[number])
        assert figure.p_value == p_values[number]
        assert figure.deviation is None
    assert pair.figures["mAP"].p_value == pytest.approx(1 / 501)
    first, second = (group.figures["mAP"].interval for group in comparison.groups)
    apart = (first.high - first.low) + (second.high - second.low)
    assert pair.figures["mAP"].interval.high - pair.figures["mAP"].interval.low < apart


def test_a_run_against_itself(runs: list[Run]) -> None:
    comparison = comparison_of([runs[0], runs[0]])
    assert [len(group.runs) for group in comparison.groups] == [1, 1]
    (pair,) = comparison.differences
    for figure in pair.figures.values():
        assert (figure.value, figure.interval, figure.p_value) == (0, (0, 0), 1)


def test_a_single_run_has_intervals_and_no_deviation(runs: list[Run]) -> None:
    comparison = comparison_of(runs[:1])
    assert comparison.differences == ()
    figure = comparison.groups[0].figures["mAP"]
    assert figure.deviation is None
    assert figure.interval.low < figure.value < figure.interval.high


def test_the_order_of_queries_and_their_folder_do_not_matter(tmp_path: Path, runs: list[Run]) -> None:
    order = np.random.default_rng(5).permutation(len(QUERIES))
    ranks = np.random.default_rng([0, 5]).integers(1, 6, len(QUERIES))[order].tolist()
    moved = images(40, 3, "/elsewhere/toy")
    again = run_at(tmp_path / "again", ranks=ranks, queries=[moved[row] for row in order])
    (pair,) = comparison_of([runs[0], again]).differences
    assert {figure.value for figure in pair.figures.values()} == {0}


def test_every_pair_is_compared_and_a_note_says_so(tmp_path: Path) -> None:
    groups = [run_of(tmp_path, 0, rate, 9) for rate in (0.1, 0.2, 0.3)]
    comparison = comparison_of(groups, names=["x", "y", "z"])
    assert [pair.name for pair in comparison.differences] == ["y - x", "z - x", "z - y"]
    assert comparison.notes == ("3 pairs are compared, and no p-value is corrected for that.",)


def test_a_note_on_a_handful_of_people(tmp_path: Path) -> None:
    run = run_at(tmp_path)
    assert any("only 3 people have queries" in note for note in comparison_of([run]).notes)


@pytest.mark.parametrize("names", [["x"], ["x", "y", "z"], ["x", "x"]])
def test_names_are_one_per_group(runs: list[Run], names: list[str]) -> None:
    with pytest.raises(ReidError, match=r"--names must be a name of its own for each of 2 groups \(.*\), got x"):
        comparison_of(runs, names=names)


def test_more_groups_than_letters(tmp_path: Path) -> None:
    groups = [run_at(tmp_path / str(number), {"LR": number}) for number in range(28)]
    assert [group.name for group in comparison_of(groups, resamples=10).groups][24:] == ["Y", "Z", "27", "28"]


def test_unlike_tests_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(ReidError, match="differ in the gallery"):
        comparison_of([run_at(tmp_path / "a"), run_at(tmp_path / "b", num_gallery=5)])
