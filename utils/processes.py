"""The same work on many items, in several processes, with a progress bar; and how many processes may be."""

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
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone tells
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def each(work: Callable[[T], R], items: Sequence[T], workers: int, title: str, unit: str = "image") -> list[R]:
    """``work`` on each item. Processes, not threads: on small images threads wait for the interpreter's lock.

    Args:
        work: a function that can be pickled.
        items: what it is called with.
        workers: processes; few items take fewer, and one process is the calling one.
        title: beside the progress bar.
        unit: what an item is called there.

    Returns:
        The results, in the order of ``items``.

    Raises:
        ReidError: if the system ended a process.
    """
    progress = partial(tqdm, total=len(items), desc=title, unit=unit)
    workers = min(workers, len(items) // _CHUNK)
    if workers <= 1:
        return list(progress(map(work, items))) if items else []
    # A fork spares each process the seconds of importing torch; where it is unsafe the default is right.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    pool = ProcessPoolExecutor(workers, context, _begin, (os.getpid(),))
    try:
        return list(progress(pool.map(work, items, chunksize=_CHUNK)))
    except BrokenProcessPool as error:
        raise ReidError(
            f"{title}: {workers} processes must live to the end, but the system ended one, most often for want of "
            "memory; take fewer, by --workers where it is an option"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end with it even if it is killed: the queue alone would not tell."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def leave_interrupts_to_main(worker: int) -> None:  # noqa: ARG001 (torch's signature)
    """Let a loader's worker outlive Ctrl-C and SIGTERM, which reach all processes of a group.

    The main process finishes what it does with its workers, and ends them itself. It may do so in the middle of
    a tensor's hand-over: the thread that serves it then meets a closed connection, which is no fault to report.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    report = sys.excepthook

    def quiet(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, (EOFError, OSError, multiprocessing.AuthenticationError)):
            report(kind, error, trace)

    sys.excepthook = quiet
