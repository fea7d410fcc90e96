"""Subnormal numbers in all threads; memory that freed tensors leave to the next ones."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from utils import cpu
from utils.cpu import keep_freed_memory

ROOT = Path(__file__).resolve().parents[2]

# 20 times 64 MiB: 16,384 pages each time, or those of earlier times again.
_COUNT_FAULTS = """
import resource, sys, torch
from utils.cpu import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(10):  # until the heap has a piece that fits
    torch.zeros(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.zeros(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    command = [sys.executable, "-c", _COUNT_FAULTS, how]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return int(process.stdout)


# Large enough that each of OpenMP's threads gets a part; the share of numbers that are still there.
_SUBNORMALS = """
import torch
from utils.cpu import flush_subnormals, flushing_thread
torch.set_num_threads(4)
def share():
    numbers = torch.full((2**22,), 1e-39)
    return float((numbers * 0.5 != 0).float().mean())
"""
_LIBRARY = "before = share(); inside = flushing_thread().submit(share).result(); print(before, inside, share())"


def shares(code: str) -> list[float]:
    command = [sys.executable, "-c", _SUBNORMALS + code]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return [float(word) for word in process.stdout.split()]


def test_all_threads_of_a_script_flush_subnormal_numbers() -> None:
    assert shares("flush_subnormals(); print(share())") == [0.0]


def test_a_flushing_thread_leaves_its_caller_as_it_is() -> None:
    assert shares(_LIBRARY) == [1.0, 0.0, 1.0]  # also where OpenMP's threads of the caller run already


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_pages_are_filled_once() -> None:
    assert faults("keep") < faults("leave") / 10


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_another_system_is_left_alone(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu.sys, "platform", system)
    assert not keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu.ctypes, "CDLL", lambda _: object())
    assert not keep_freed_memory()
