"""A loader's workers: none outlives it, none hangs, and the limits of the machine come through as errors."""

import multiprocessing
import os
import re
import resource
import signal
import sys
import time
from contextlib import closing
from multiprocessing.process import BaseProcess

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from datasets.loader import Loader
from utils.command_line import explain
from utils.processes import begin_worker
from utils.signals import InterruptedRun, stop_on_signals

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")


class Numbers(Dataset[Tensor]):
    """Rows of numbers, larger than a pipe holds; some are strange."""

    def __init__(self, stuck: int = -1, wrong: int = -1, limit: tuple[int, int] | None = None) -> None:
        self.stuck, self.wrong, self.limit = stuck, wrong, limit

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Tensor:
        if self.limit is not None and get_worker_info() is not None:
            resource.setrlimit(self.limit[0], (self.limit[1],) * 2)
        if index == self.wrong:
            raise ValueError("wrong")
        while index == self.stuck:
            time.sleep(1)
        return torch.full((10_000,), index)


def loader(data: Numbers, **options: object) -> Loader[Tensor]:
    return Loader(data, batch_size=4, num_workers=2, collate_fn=torch.stack, **options)  # type: ignore[arg-type]


def workers() -> list[BaseProcess]:
    return [process for process in multiprocessing.active_children() if process.daemon]


@pytest.mark.parametrize("persistent", [True, False])
def test_no_worker_outlives_its_loader(persistent: bool) -> None:
    with closing(loader(Numbers(), persistent_workers=persistent)) as batches:
        assert [int(batch[0, 0]) for batch in batches] == list(range(0, 64, 4))
    assert not workers()
    with pytest.raises(ValueError, match="wrong"), closing(loader(Numbers(wrong=9))) as batches:
        list(batches)
    assert not workers()


def test_a_worker_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)  # seconds that torch waits
    with closing(loader(Numbers(stuck=9))) as batches:
        assert int(next(iter(batches))[0, 0]) == 0
        hanging = workers()
        assert len(hanging) == 2
    for process in hanging:
        process.join(5)
    assert not workers()


@linux
@pytest.mark.parametrize(
    ("limit", "remedy"),
    [
        ((resource.RLIMIT_FSIZE, 1000), "/dev/shm is too small.*--shm-size.*DATALOADER.NUM_WORKERS 0"),
        ((resource.RLIMIT_NOFILE, 12), "ulimit -n.*DATALOADER.NUM_WORKERS 0"),
    ],
    ids=["shared memory", "files"],
)
def test_a_lost_batch_is_an_error_with_a_remedy_and_no_hang(limit: tuple[int, int], remedy: str) -> None:
    """The shared memory of this file system counts as a file."""
    with closing(loader(Numbers(limit=limit))) as batches, pytest.raises(RuntimeError) as error:
        list(batches)
    line = explain(error.value) or ""
    assert re.fullmatch(f"[^\n]*{remedy}[^\n]*", line), line


def test_a_signal_at_the_start_of_workers_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python swallows what a handler raises within the hooks of a fork."""
    start = multiprocessing.Process.start

    def start_and_signal(process: multiprocessing.Process) -> None:
        signal.raise_signal(signal.SIGINT)
        start(process)

    stop_on_signals("stopped")
    monkeypatch.setattr(BaseProcess, "start", start_and_signal)
    with pytest.raises(InterruptedRun), closing(loader(Numbers())) as batches:
        next(iter(batches))
    assert not workers()


@linux
def test_a_group_that_is_terminated_does_not_kill_a_worker_that_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The main process would take the worker's end for a loss of memory, and not for the stop that it is."""

    def begin_slowly(worker: int) -> None:
        time.sleep(0.3)
        begin_worker(worker)

    monkeypatch.setattr("datasets.loader.begin_worker", begin_slowly)
    with closing(loader(Numbers())) as batches:
        iterator = iter(batches)
        time.sleep(0.1)
        for process in workers():
            os.kill(process.pid or 0, signal.SIGTERM)
        assert len(list(iterator)) == 16


class Halves(Dataset[Tensor]):
    """Halves of a number below the smallest normal one."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        return torch.full((2,), 1e-39) * 0.5


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_flush_subnormal_numbers(method: str) -> None:
    with closing(Loader(Halves(), num_workers=1, multiprocessing_context=method)) as loader:
        assert not any(bool(batch.any()) for batch in loader)
    assert bool((torch.full((2,), 1e-39) * 0.5).any())
