import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.significance import IdentitySums, bootstrap_means, intervals, permutation_p_values
from tests.support import memory_budget
from utils import blocks


def plain_bootstrap(values: np.ndarray, identities: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Draw people, collect all of their queries, and average."""
    people = sorted(set(identities.tolist()))
    draws = np.random.default_rng(seed).integers(len(people), size=(resamples, len(people)))
    means = []
    for draw in draws:
        rows = [row for number in draw for row in np.flatnonzero(identities == people[number])]
        means.append(values[rows].mean(0))
    return np.array(means)


def plain_p_value(differences: np.ndarray, identities: np.ndarray, resamples: int, seed: int) -> float:
    """Exchange two models for each person by a coin, and count the mean differences that are as large."""
    people = sorted(set(identities.tolist()))
    coins = np.random.default_rng(seed).random((resamples, len(people)))
    count = 0
    for row in coins:
        exchanged = differences.copy()
        for person, coin in zip(people, row, strict=True):
            exchanged[identities == person] *= -1 if coin < 0.5 else 1
        count += abs(exchanged.mean()) >= abs(differences.mean()) - 1e-12
    return (1 + count) / (1 + resamples)


def draw_case(seed: int, num_queries: int, num_ids: int) -> tuple[np.ndarray, np.ndarray]:
    """Values (Q, 3) with many equal ones, and identities that are neither sorted nor dense."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4, (num_queries, 3)) / 3, rng.integers(0, num_ids, num_queries) * 7 + 5


cases = st.builds(draw_case, st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 12))
budgets = st.sampled_from([1, 5000, blocks.MEMORY_BUDGET])


@settings(max_examples=60)
@given(cases, st.integers(0, 100), budgets)
def test_the_bootstrap_equals_the_plain_loop(case: tuple, seed: int, budget: int) -> None:
    values, identities = case
    with memory_budget(budget):
        means = bootstrap_means(IdentitySums.of(values, identities), 23, seed)
    np.testing.assert_allclose(means, plain_bootstrap(values, identities, 23, seed), atol=1e-12)


@settings(max_examples=60)
@given(cases, st.integers(0, 100), budgets)
def test_the_permutation_test_equals_the_plain_loop(case: tuple, seed: int, budget: int) -> None:
    values, identities = case
    differences = values - 0.5
    with memory_budget(budget):
        p_values = permutation_p_values(IdentitySums.of(differences, identities), 29, seed)
    plain = [plain_p_value(column, identities, 29, seed) for column in differences.T]
    np.testing.assert_allclose(p_values, plain, rtol=1e-12)


def test_means_are_those_of_the_queries_not_of_the_people() -> None:
    sums = IdentitySums.of(np.array([[1.0], [1.0], [1.0], [0.0]]), np.array([7, 7, 7, 2]))
    assert sums.means().tolist() == [0.75]


def test_the_interval_of_a_constant_is_a_point() -> None:
    sums = IdentitySums.of(np.full((12, 1), 0.25), np.arange(12) // 3)
    assert intervals(bootstrap_means(sums, 500, 0)) == [(0.25, 0.25)]


def test_the_interval_holds_the_share_of_the_samples_that_it_says() -> None:
    (interval,) = intervals(np.arange(1001.0)[:, None])
    assert interval == pytest.approx((25, 975))


def test_no_difference_has_p_1_and_a_large_one_the_least_p() -> None:
    identities = np.arange(60) // 2
    rng = np.random.default_rng(0)
    differences = np.stack([np.zeros(60), np.full(60, 0.5), rng.normal(1, 0.1, 60)], axis=1)
    p_values = permutation_p_values(IdentitySums.of(differences, identities), 999, 0)
    assert p_values.tolist() == [1.0, 0.001, 0.001]


def test_few_people_have_an_exact_p_value() -> None:
    """Of three people with equal differences, 2 of 8 exchanges are as large: none and all."""
    p_value = permutation_p_values(IdentitySums.of(np.ones((3, 1)), np.arange(3)), 40_000, 0)
    assert p_value == pytest.approx(0.25, abs=0.01)


def test_p_values_of_equal_models_are_uniform() -> None:
    rng = np.random.default_rng(1)
    identities = np.arange(200) // 4
    person = rng.normal(size=(50, 400)).repeat(4, axis=0)  # a person's queries are alike
    sums = IdentitySums.of(person + rng.normal(size=(200, 400)), identities)
    p_values = permutation_p_values(sums, 400, 0)
    for level in (0.05, 0.2, 0.5):
        assert (p_values <= level).mean() == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / 400))


def test_the_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    """400 simulated tests of 80 people, whose queries are alike; the true mean is 0."""
    rng = np.random.default_rng(2)
    counts = rng.integers(1, 8, 80)
    identities = np.arange(80).repeat(counts)
    people = rng.normal(size=(80, 400)).repeat(counts, axis=0)
    sums = IdentitySums.of(people + rng.normal(size=people.shape), identities)
    ends = np.array(intervals(bootstrap_means(sums, 500, 0)))
    covered = ((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean()
    assert 0.91 <= covered <= 0.98
    single = np.array(intervals(bootstrap_means(IdentitySums.of(people, np.arange(len(people))), 500, 0)))
    assert ((single[:, 0] <= 0) & (single[:, 1] >= 0)).mean() < 0.85  # as if queries were independent


def test_copies_of_a_query_add_nothing() -> None:
    values = np.random.default_rng(3).random((50, 1))
    ends = [
        intervals(bootstrap_means(IdentitySums.of(values.repeat(copies, axis=0), identities), 4000, 0))[0]
        for copies, identities in ((1, np.arange(50)), (9, np.arange(50).repeat(9)), (9, np.arange(450)))
    ]
    once, copied, independent = (high - low for low, high in ends)
    assert copied == pytest.approx(once, abs=1e-12)
    assert independent == pytest.approx(once / 3, rel=0.1)


def test_memory_is_bounded_by_the_budget() -> None:
    sums = IdentitySums.of(np.random.default_rng(0).random((3000, 10)), np.arange(3000) // 4)
    with memory_budget(4 * 2**20):
        for procedure in (bootstrap_means, permutation_p_values):
            tracemalloc.start()
            procedure(sums, 3000, 0)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 2**20 + 3000 * 10 * 8 * 2, procedure  # all draws at once are 18 MB
