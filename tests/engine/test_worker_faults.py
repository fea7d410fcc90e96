"""Runs with real workers, in processes of their own: whatever happens, they end, and so do their workers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.engine.support import ONE_EPOCH, without

ROOT = Path(__file__).resolve().parents[2]
SPAWN = "import multiprocessing, sys, train; multiprocessing.set_start_method('spawn'); sys.exit(train.main(sys.argv[1:]))"
# A callback that is one more of the run, and does something at an event of it.
AT_EVENT = """
import os, signal, sys
from pytorch_lightning import Callback
import train
from engine import run

def act(*_, **__):
    {action}

Extra = type("Extra", (Callback,), dict({event}=act))
build = run.build_trainer
run.build_trainer = lambda cfg, folder, callbacks: build(cfg, folder, [*callbacks, Extra()])
sys.exit(train.main(sys.argv[1:]))
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process groups of POSIX")


def run_python(*words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a group of processes, which must be empty a moment after its end."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, *words]
    with subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            output, error = process.communicate(timeout=150)
            assert ends(process.pid), "processes are left"
        finally:
            if not ends(process.pid, seconds=0):
                os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, process.returncode, output, error)


def ends(group: int, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)


@pytest.fixture
def arguments(tiny_arguments: list[str]) -> list[str]:
    return [*without(tiny_arguments, "DATALOADER.NUM_WORKERS"), "DATALOADER.NUM_WORKERS", "2"]


@pytest.mark.parametrize("event", ["validation", "training"])
def test_a_damaged_image_ends_a_run_with_workers(
    event: str, arguments: list[str], tiny_market: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(tiny_market, tmp_path / "data" / "tiny"))
    path = sorted((data / ("query" if event == "validation" else "bounding_box_train")).glob("*.jpg"))[3]
    path.write_bytes(path.read_bytes()[:300])
    done = run_python("train.py", *arguments, "DATASETS.NAMES", str(data))
    assert done.returncode == 2, done.stderr[-2000:]
    assert done.stderr.splitlines()[-1].startswith(f"error: cannot read image {path}: ")
    assert "Traceback" not in done.stderr


def test_workers_that_are_spawned_train_and_validate(arguments: list[str], tmp_path: Path) -> None:
    done = run_python("-c", SPAWN, *arguments, *ONE_EPOCH)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((tmp_path / "logs").rglob("report_0.json"))) == 1


@pytest.mark.parametrize(
    ("event", "code", "saved"),
    [
        ("setup", 130, False),  # before the workers start
        ("on_fit_start", 130, False),
        ("on_train_start", 130, True),
        ("on_validation_start", 130, True),
        ("on_fit_end", 130, False),
    ],
)
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.slow
def test_a_signal_at_any_event_stops_with_130(
    number: str, event: str, code: int, saved: bool, arguments: list[str], tmp_path: Path
) -> None:
    program = AT_EVENT.format(event=event, action=f"os.kill(os.getpid(), signal.{number})")
    done = run_python("-c", program, *arguments)
    assert done.returncode == code, done.stderr[-2000:]
    assert bool(list((tmp_path / "logs").rglob("*_interrupted.pth"))) == saved
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("event", ["on_train_batch_start", "on_validation_start"])
def test_two_signals_stop_at_once(event: str, arguments: list[str]) -> None:
    action = "os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGTERM)"
    done = run_python("-c", AT_EVENT.format(event=event, action=action), *arguments)
    assert done.returncode == 130, done.stderr[-2000:]
    assert "Traceback" not in done.stderr


def test_a_killed_worker_ends_the_run_in_one_line(arguments: list[str]) -> None:
    action = "import multiprocessing; [process.kill() for process in multiprocessing.active_children()]"
    done = run_python("-c", AT_EVENT.format(event="on_validation_batch_start", action=action), *arguments)
    assert done.returncode == 2, done.stderr[-2000:]
    assert "lower DATALOADER.NUM_WORKERS" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
