"""A parallel map over processes with a progress bar, how a loader's workers end, and the ranks of a run."""

import errno
import multiprocessing
import multiprocessing.queues
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tqdm import tqdm

from utils.errors import ReidError
from utils.signals import deferred_signals, ignore_signals, receive_signals

MAX_WORKERS = 256
"""Processes that one option may ask for; more of them only wait for one another."""

_SHARED_MEMORY = Path("/dev/shm")
_SLACK = 2**20  # bytes, for semaphores and labels
_CHUNK = 8  # items that a process takes at once
_RANKS = (
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "NODE_RANK", "MASTER_PORT",
    "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_NNODES",
)  # fmt: skip
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
    progress = partial(tqdm, total=len(items), desc=title, unit=unit, disable=None)  # none in a file
    workers = min(workers, len(items) // _CHUNK)
    if workers <= 1:
        return list(progress(map(work, items))) if items else []
    # A fork spares each process the seconds of importing torch; where a fork is unsafe, the default is right.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    pool = ProcessPoolExecutor(workers, context, _begin, (os.getpid(),))
    try:
        with deferred_signals():  # the processes are forked here
            results = pool.map(work, items, chunksize=_CHUNK)
        return list(progress(results))
    except BrokenProcessPool as error:
        raise ReidError(
            f"{title}: all {workers} processes must finish, but the system ended one, usually because memory ran "
            "out; use fewer processes, by --workers where it is an option"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end on its SIGTERM or when it ends, even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    receive_signals()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def begin_worker(worker: int) -> None:  # noqa: ARG001 (torch's signature)
    """``worker_init_fn`` of a loader: flush subnormals, leave signals to the main process, end where a batch is lost.

    SIGINT and SIGTERM reach all processes of a group; the main process answers them and ends its workers itself. It
    may do so while a worker hands over a tensor, so the worker does not report connection errors. A worker that has
    no file descriptor or no shared memory left loses the batch, for which the main process would wait for ever:
    it ends with the number of the error, which the main process reports.
    """
    from utils.cpu import flush_subnormals  # here: tools of data sets do without torch, and a worker has it

    flush_subnormals()
    ignore_signals()
    receive_signals()
    report = sys.excepthook

    def quiet(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if getattr(error, "errno", 0) in (errno.EMFILE, errno.ENFILE):
            os._exit(errno.EMFILE)
        if not issubclass(kind, (EOFError, OSError, multiprocessing.AuthenticationError)):
            report(kind, error, trace)

    sys.excepthook = quiet
    # The hook for errors of the thread that hands over, which no argument reaches.
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_lose_batch)  # type: ignore[attr-defined]


def _lose_batch(error: Exception, _: object) -> None:
    if not isinstance(error, (EOFError, ConnectionError)):  # they say that the main process needs it no more
        no_files = getattr(error, "errno", 0) == errno.EMFILE or "Too many open files" in str(error)
        os._exit(errno.EMFILE if no_files else errno.ENOSPC)


def check_shared_memory(workers: int, num_images: int, batch: int, size: tuple[int, int]) -> None:
    """Refuse workers whose batches /dev/shm cannot hold; Docker gives it 64 MiB where nobody asks for more.

    Args:
        workers: of a loader; each prepares two batches ahead.
        num_images: of the loader.
        batch: images in a batch.
        size: height and width of an image, of three channels of a byte.

    Raises:
        ReidError: if there is too little; the message says how to get more.
    """
    need = 3 * size[0] * size[1] * min(num_images, 2 * workers * batch)
    if not workers or not _SHARED_MEMORY.is_dir():  # only Linux has the folder
        return
    free = shutil.disk_usage(_SHARED_MEMORY).free
    if free < need + _SLACK:
        raise ReidError(
            f"{_SHARED_MEMORY} must have {(need + _SLACK) / 2**20:.1f} MiB for the batches of DATALOADER.NUM_WORKERS "
            f"{workers}, but {free / 2**20:.1f} MiB are free; start the container with --shm-size 2g, or set "
            "DATALOADER.NUM_WORKERS 0"
        )


def runnable_processes() -> int:
    """Processes and threads of the whole machine that compute or wait for a CPU, this one included; 0 = unknown."""
    try:
        counts = []
        for _ in range(3):  # a moment may be odd
            counts.append(int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0]))
            time.sleep(0.01)
    except (OSError, ValueError, IndexError):  # not Linux
        return 0
    return min(counts)


def check_ranks() -> None:
    """Refuse an environment that counts the processes of a run in anything but whole numbers.

    Raises:
        ReidError: naming the variable.
    """
    for name in _RANKS:
        if name in os.environ and not os.environ[name].isdecimal():
            raise ReidError(
                f"{name} must be a whole number, as torchrun and clusters set it, got {os.environ[name]!r}; unset it"
            )
