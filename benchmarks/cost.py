"""What a call costs: seconds on the wall and of the processor, and memory."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def clock(run: Callable[[], object]) -> np.ndarray:
    """Seconds of one call: on the wall, and of processor time, which a busy machine spoils less."""
    start, used = time.perf_counter(), time.process_time()
    run()
    return np.array([time.perf_counter() - start, time.process_time() - used])


def peak_growth(run: Callable[[], object]) -> float:
    """Growth of the peak resident memory of the process in MiB while ``run`` runs (Linux only)."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_kib("VmRSS")
    run()
    return (_status_kib("VmHWM") - before) / 1024


def _status_kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))
