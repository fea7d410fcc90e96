from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from inference.service.batching import Batcher, BusyError


class Squares:
    """Squares numbers, and waits for the permission to begin."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.begun.release()
        self.go.acquire()
        self.batches.append(list(numbers))
        if 13 in numbers:
            raise ValueError("thirteen")
        return [number * number for number in numbers]


def test_what_comes_during_a_batch_is_the_next_one() -> None:
    work = Squares()
    batcher = Batcher("test", work, most=4, waiting=100)
    first = batcher.submit(0)
    work.begun.acquire()
    others = [batcher.submit(number) for number in range(1, 7)]
    assert batcher.waiting == 6
    work.go.release(3)
    assert [future.result(30) for future in (first, *others)] == [number**2 for number in range(7)]
    assert work.batches == [[0], [1, 2, 3, 4], [5, 6]]
    assert (batcher.items, batcher.batches) == (7, 3)
    batcher.close()


def test_an_error_concerns_its_own_item_only() -> None:
    work = Squares()
    work.go.release(100)
    batcher = Batcher("test", work, most=8, waiting=100)
    futures = [batcher.submit(number) for number in (1, 13, 2, 13, 3)]
    results = [future.exception(30) or future.result() for future in futures]
    assert [result for result in results if isinstance(result, int)] == [1, 4, 9]
    assert [str(result) for result in results if isinstance(result, ValueError)] == ["thirteen", "thirteen"]
    batcher.close()


def test_more_than_may_wait_are_refused() -> None:
    work = Squares()
    batcher = Batcher("test", work, most=2, waiting=2)
    batcher.submit(0)
    work.begun.acquire()
    waiting = [batcher.submit(number) for number in (1, 2)]
    with pytest.raises(BusyError):
        batcher.submit(3)
    work.go.release(100)
    assert [future.result(30) for future in waiting] == [1, 4]
    batcher.close()


def test_a_client_that_went_away_harms_nobody() -> None:
    work = Squares()
    batcher = Batcher("test", work, most=8, waiting=100)
    batcher.submit(0)
    work.begun.acquire()
    gone, present = batcher.submit(1), batcher.submit(2)
    assert gone.cancel()
    work.go.release(100)
    assert present.result(30) == 4
    assert work.batches == [[0], [2]]
    alone = batcher.submit(3)
    assert alone.result(30) == 9
    batcher.close()


def test_closing_finishes_what_waits_and_takes_no_more() -> None:
    work = Squares()
    work.go.release(100)
    batcher = Batcher("test", work, most=1, waiting=100)
    futures = [batcher.submit(number) for number in range(10)]
    batcher.close()
    assert [future.result(0) for future in futures] == [number**2 for number in range(10)]
    with pytest.raises(BusyError):
        batcher.submit(1)


def test_an_error_of_all_is_told_to_all_without_a_second_attempt() -> None:
    work = Squares()
    batcher = Batcher("test", work, most=8, waiting=100, of_all=(ValueError,))
    batcher.submit(0)
    work.begun.acquire()
    futures = [batcher.submit(number) for number in (1, 13, 2)]
    work.go.release(100)
    assert [str(future.exception(30)) for future in futures] == ["thirteen"] * 3
    assert work.batches == [[0], [1, 13, 2]]
    assert batcher.submit(3).result(30) == 9
    batcher.close()
