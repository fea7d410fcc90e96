import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from utils.errors import ReidError
from utils.processes import begin_worker, check_ranks, check_shared_memory, each, runnable_processes, usable_cpus

SLEEPERS = "import time; from utils.processes import each; each(time.sleep, [60] * 32, 2, 'sleep')"


@pytest.mark.parametrize("workers", [1, 2, 50])
def test_results_keep_their_order(workers: int) -> None:
    assert each(abs, range(-40, 0), workers, "numbers") == list(range(40, 0, -1))
    assert each(abs, [], workers, "numbers") == []


def test_an_error_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        each((1).__truediv__, [1] * 30 + [0], 2, "quotients")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_end_with_a_killed_parent() -> None:
    run = subprocess.Popen([sys.executable, "-c", SLEEPERS], cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    try:
        deadline = time.monotonic() + 60
        while len(pids := children.read_text().split()) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(pids) == 2
    finally:
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    deadline = time.monotonic() + 30
    while any(_runs(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_runs(pid) for pid in pids)


AT_FORK = """
import os, signal
from utils.processes import each
from utils.signals import InterruptedRun, stop_on_signals
stop_on_signals("stopped by a signal")
os.register_at_fork(before=lambda: os.kill(os.getpid(), signal.SIGTERM))
try:
    each(abs, range(100), 2, "numbers")
except InterruptedRun as stop:
    print(stop)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_signal_while_processes_begin_is_not_swallowed() -> None:
    command = [sys.executable, "-c", AT_FORK]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60)
    assert run.stdout == "stopped by a signal\n", run.stderr
    assert "Exception ignored" not in run.stderr


def _runs(pid: str) -> bool:
    """Not so if it waits, dead, for somebody to ask after it."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_worker_survives_signals_and_hides_closed_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kinds = list[type[BaseException]]()
    monkeypatch.setattr(sys, "excepthook", lambda kind, *_: kinds.append(kind))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        begin_worker(0)
        os.kill(os.getpid(), signal.SIGTERM)  # ignored, or this test would end here
        for kind in (EOFError, ConnectionResetError, ValueError):
            sys.excepthook(kind, kind("x"), None)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert kinds == [ValueError]


def test_the_cpus_that_a_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 8}, raising=False)
    assert usable_cpus() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cpus() == 64


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_PROCID"])
@pytest.mark.parametrize("text", ["", "one", "-1", "1.5"])
def test_a_rank_is_a_whole_number(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(ReidError, match=f"{name} must be a whole number.*got {text!r}; unset it"):
        check_ranks()
    monkeypatch.setenv(name, "3")
    check_ranks()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_that_compute_are_counted() -> None:
    loop = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        time.sleep(0.5)
        assert runnable_processes() >= 3
    finally:
        for process in loop:
            process.kill()
            process.wait()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="shared memory is no folder")
def test_workers_need_shared_memory_for_their_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    free = SimpleNamespace(free=64 * 2**20)  # as Docker gives it
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    for workers, images, batch in ((0, 10**6, 128), (2, 10**6, 128), (8, 600, 128)):
        check_shared_memory(workers, images, batch, (256, 128))
    with pytest.raises(ReidError, match=r"97\.0 MiB .*NUM_WORKERS 4, but 64\.0 MiB .*--shm-size 2g, or set .* 0"):
        check_shared_memory(4, 10**6, 128, (256, 128))
