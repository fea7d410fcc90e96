"""A parallel map over processes with a progress bar, and how workers react to signals."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from types import TracebackType
from typing import TypeVar

from tqdm import tqdm

from utils.errors import ReidError

_CHUNK = 8  # items that a process takes at once
T = TypeVar("T")
R = TypeVar("R")


def usable_cpus() -> int:
    """CPUs that this process may use, which a cluster or a container may have limited."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def each(work: Callable[[T], R], items: Sequence[T], workers: int, title: str, unit: str = "image") -> list[R]:
    """Call ``work`` on each item in several processes; on small images threads would wait for the interpreter's lock.

    Args:
        work: a function that can be pickled.
        items: its arguments.
        workers: number of processes; few items use fewer, and a single one is the calling process.
        title: of the progress bar.
        unit: what the bar calls an item.

    Returns:
        The results, in the order of ``items``.

    Raises:
        ReidError: if the system ended a process.
    """
    progress = partial(tqdm, total=len(items), desc=title, unit=unit)
    workers = min(workers, len(items) // _CHUNK)
    if workers <= 1:
        return list(progress(map(work, items))) if items else []
    # A fork spares each process the seconds of importing torch; where a fork is unsafe, the default is right.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    pool = ProcessPoolExecutor(workers, context, _begin, (os.getpid(),))
    try:
        return list(progress(pool.map(work, items, chunksize=_CHUNK)))
    except BrokenProcessPool as error:
        raise ReidError(
            f"{title}: all {workers} processes must finish, but the system ended one, usually because memory ran "
            "out; use fewer processes, by --workers where it is an option"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(parent: int) -> None:
    """Ignore Ctrl-C, which the parent handles, and end when the parent ends, even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def leave_interrupts_to_main(worker: int) -> None:  # noqa: ARG001 (torch's signature)
    """``worker_init_fn`` of a loader: ignore SIGINT and SIGTERM, which reach all processes of a group.

    The main process handles them and ends its workers itself. It may do so while a worker hands over a tensor, so
    the worker does not report connection errors.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    report = sys.excepthook

    def quiet(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, (EOFError, OSError, multiprocessing.AuthenticationError)):
            report(kind, error, trace)

    sys.excepthook = quiet
