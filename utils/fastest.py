"""Choose the fastest of several ways to do the same work by timing them, once per machine."""

import json
import logging
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch

from utils.files import only_process, write_text

logger = logging.getLogger(__name__)

_SECONDS = 2.0  # for all candidates together
_GAIN = 1.1  # a choice other than the default must be worth a change of the last bits


def fastest(
    subject: str, candidates: Mapping[str, Callable[[], object]], default: str, *, measure: bool = True
) -> str:
    """Time the candidates, or read what was measured before on this machine.

    Each candidate is called once to warm up and then in turn with the others, for about two seconds in all; medians
    count. The choice is stored in :func:`cache_file` with the names of processor and GPU, the number of threads and
    the version of torch; another of them is measured again. Processes measure one after another, so that all
    processes of a run on one machine get the choice of the first.

    Args:
        subject: what the candidates do, with everything that decides their speed: network, batch, size.
        candidates: name -> one step of work, which ends when its device has finished.
        default: one of the names; another one must be at least 10 % faster.
        measure: False = only read what was measured before; the default where nothing was.

    Returns:
        The name of the choice; a single candidate is not timed.
    """
    if len(candidates) == 1:
        return default
    key = " | ".join([subject, ", ".join(sorted(candidates)), f"default {default}", *_machine()])
    with ExitStack() as stack:
        if measure:
            with suppress(OSError):  # an unwritable folder: the processes of one run may choose differently
                cache_file().parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(only_process(cache_file().with_suffix(".lock"), wait=True))
        choices, origin = _read(), "measured earlier"
        if not _is_choice(choices.get(key), candidates):
            if not measure:
                return default
            choices[key], origin = _measured(candidates, default), "measured"
            with suppress(OSError):  # the next run measures again
                write_text(cache_file(), json.dumps(choices, indent=1))
    choice = choices[key]
    times = ", ".join(f"{name} {time:.4g} ms" for name, time in choice["ms"].items())
    logger.info("%s: %s (%s: %s)", subject, choice["name"], origin, times)
    name: str = choice["name"]
    return name


def cache_file() -> Path:
    """The file of the choices, in the user's folder for caches; it may be removed at any time."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 (pathlib's may fail)
    return Path(folder, "snu-reid", "fastest.json")


def _measured(candidates: Mapping[str, Callable[[], object]], default: str) -> dict[str, Any]:
    """A choice as the file holds it."""
    seconds = _time(candidates)
    best = min(seconds, key=lambda name: seconds[name])
    best = best if seconds[best] * _GAIN <= seconds[default] else default
    return {"name": best, "ms": {name: round(1e3 * time, 3) for name, time in seconds.items()}}


def _time(candidates: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of one call of each."""
    end = time.perf_counter() + _SECONDS
    for step in candidates.values():
        step()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    while True:
        start = time.perf_counter()
        for name, step in candidates.items():
            before = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - before)
        now = time.perf_counter()
        if now + (now - start) > end:
            return {name: statistics.median(values) for name, values in times.items()}


def _machine() -> list[str]:
    gpu = [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    return [_processor(), *gpu, f"{torch.get_num_threads()} threads", f"torch {torch.__version__}"]


def _processor() -> str:
    with suppress(OSError, StopIteration):  # not Linux, or a processor without a name there
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def _read() -> dict[str, Any]:
    try:
        content = json.loads(cache_file().read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_choice(value: object, candidates: Mapping[str, object]) -> bool:
    """Whether the file holds a choice as this module writes it."""
    if not isinstance(value, dict) or value.get("name") not in list(candidates):
        return False
    times = value.get("ms")
    return isinstance(times, dict) and all(isinstance(time, (int, float)) for time in times.values())
