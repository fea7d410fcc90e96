from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.batch import SeededIndex
from datasets.samplers import PKBatchSampler, ProcessShare, SequentialShare
from utils.errors import ReidError


def epoch(sampler: PKBatchSampler, number: int) -> list[list[SeededIndex]]:
    sampler.set_epoch(number)
    return list(sampler)


@settings(max_examples=80, deadline=None)
@given(
    counts=st.lists(st.integers(1, 25), min_size=2, max_size=20),
    instances=st.integers(2, 5),
    world=st.integers(1, 3),
    seed=st.integers(0, 9),
    data=st.data(),
)
def test_batches_hold_p_times_k_images_and_an_epoch_all_identities(
    counts: list[int], instances: int, world: int, seed: int, data: st.DataObject
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    per_batch = data.draw(st.integers(2, len(counts)))
    samplers = [
        PKBatchSampler(labels, per_batch, instances, seed, ProcessShare(rank, world)) for rank in range(world)
    ]
    shares = [epoch(sampler, 3) for sampler in samplers]
    assert {len(share) for share in shares} == {len(samplers[0])}
    rows: set[int] = set()
    for batch in (batch for share in shares for batch in share):
        of_batch = Counter(int(labels[draw.row]) for draw in batch)
        assert len(of_batch) == per_batch
        assert set(of_batch.values()) == {instances}
        rows |= {draw.row for draw in batch}
    assert {int(labels[row]) for row in rows} == set(range(len(counts)))


def test_every_image_is_used_when_no_identity_dominates() -> None:
    labels = np.repeat(np.arange(30), np.random.default_rng(0).integers(1, 12, 30))
    sampler = PKBatchSampler(labels, 4, 4, seed=0)
    for number in range(3):
        rows = [draw.row for batch in epoch(sampler, number) for draw in batch]
        assert set(rows) == set(range(len(labels)))


def test_images_of_a_large_identity_are_not_repeated_within_its_chunk() -> None:
    labels = np.repeat(np.arange(6), 9)
    for batch in epoch(PKBatchSampler(labels, 3, 4, seed=1), 0):
        assert len({draw.row for draw in batch}) == len(batch)


def test_epochs_differ_and_repeat_with_the_seed() -> None:
    labels = np.repeat(np.arange(20), 8)
    one, two = PKBatchSampler(labels, 4, 4, seed=5), PKBatchSampler(labels, 4, 4, seed=5)
    assert epoch(one, 0) != epoch(one, 1)
    assert epoch(one, 1) == epoch(two, 1)
    assert epoch(PKBatchSampler(labels, 4, 4, seed=6), 1) != epoch(one, 1)
    seeds = [draw.seed for batch in epoch(one, 0) for draw in batch]
    assert len(set(seeds)) == len(seeds)


def test_processes_share_one_plan() -> None:
    labels = np.repeat(np.arange(20), 8)
    whole = epoch(PKBatchSampler(labels, 4, 4, seed=5), 2)
    shares = [epoch(PKBatchSampler(labels, 4, 4, 5, ProcessShare(rank, 2)), 2) for rank in range(2)]
    assert [batch for pair in zip(*shares, strict=True) for batch in pair] == whole


def test_an_interrupted_epoch_goes_on_where_it_stopped_and_only_once() -> None:
    labels = np.repeat(np.arange(20), 8)
    whole = epoch(PKBatchSampler(labels, 4, 4, seed=5), 2)
    sampler = PKBatchSampler(labels, 4, 4, seed=5)
    sampler.start_at(2, 3)
    sampler.set_epoch(2)
    assert list(sampler) == whole[3:]
    assert list(sampler) == whole
    assert len(sampler) == len(whole)
    sampler.start_at(2, 3)
    assert epoch(sampler, 3) == epoch(PKBatchSampler(labels, 4, 4, seed=5), 3)


def test_too_few_identities_are_refused() -> None:
    with pytest.raises(ReidError, match=r"must be the number of identities \(3\) or less, got 16"):
        PKBatchSampler([0, 1, 2, 2], 16, 4, seed=0)


@given(length=st.integers(0, 50), world=st.integers(1, 7))
def test_shares_of_an_evaluation_partition_the_images(length: int, world: int) -> None:
    shares = [list(SequentialShare(length, ProcessShare(rank, world))) for rank in range(world)]
    assert sorted(row for share in shares for row in share) == list(range(length))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_without_resampling_small_identities_give_each_image_once() -> None:
    counts = [1, 2, 3, 4, 9, 17]
    labels = np.repeat(np.arange(6), counts)
    sampler = PKBatchSampler(labels, 3, 4, seed=0, resample=False)
    all_rows: set[int] = set()
    for number in range(2):
        for batch in epoch(sampler, number):
            rows = [draw.row for draw in batch]
            assert len(set(rows)) == len(rows)
            for identity, count in Counter(int(labels[row]) for row in rows).items():
                assert count == min(4, counts[identity])
            all_rows |= set(rows)
    assert all_rows == set(range(len(labels)))
