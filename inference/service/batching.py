"""Work of many clients in one batch: while a batch is at work, the next one gathers."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


class BusyError(Exception):
    """As many items wait as may wait: the client must come again later."""


class Batcher(Generic[T, R]):
    """One thread that does all the work, as many items at once as there are.

    Nobody waits for a batch to fill. A lone client gets its answer at once; with many, the items that come while a
    batch is at work are the next one.

    Args:
        name: of the thread.
        work: from N items to N results, in order; only this thread calls it.
        most: items in a batch.
        waiting: items that may wait.
        of_all: errors that concern a batch as a whole; after others its items are done again, each alone.

    Attributes:
        items: that were done.
        batches: in which they were done.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[T]], Sequence[R]],
        most: int,
        waiting: int,
        of_all: tuple[type[Exception], ...] = (),
    ) -> None:
        self._work, self._most, self._of_all = work, most, of_all
        self._queue: Queue[tuple[T, Future[R]] | None] = Queue(waiting)
        self.items = self.batches = 0
        self._open = True
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Items that wait now."""
        return self._queue.qsize()

    def submit(self, item: T) -> "Future[R]":
        """Hand in an item.

        Raises:
            BusyError: if too many wait, or it is closed.
        """
        future: Future[R] = Future()
        try:
            if not self._open:
                raise Full
            self._queue.put_nowait((item, future))
        except Full as error:
            raise BusyError from error
        return future

    def close(self) -> None:
        """End the thread when it has done what waits; nothing more may be handed in."""
        self._open = False
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        more = True
        while more:
            jobs, more = self._gather()
            if jobs:
                self._answer(jobs)

    def _gather(self) -> "tuple[list[tuple[T, Future[R]]], bool]":
        """What waits, once there is something, and whether more will come."""
        jobs: list[tuple[T, Future[R]]] = []
        job = self._queue.get()
        with suppress(Empty):
            while job is not None:
                if job[1].set_running_or_notify_cancel():  # a client that has gone may have cancelled it
                    jobs.append(job)
                if len(jobs) == self._most:
                    return jobs, True
                job = self._queue.get_nowait()
            return jobs, False
        return jobs, True

    def _answer(self, jobs: "list[tuple[T, Future[R]]]") -> None:
        try:
            results = self._work([item for item, _ in jobs])
        except Exception as error:  # it goes to the client whose item it is
            if len(jobs) > 1 and not isinstance(error, self._of_all):  # which one is not known
                for job in jobs:
                    self._answer([job])
                return
            for _, future in jobs:
                future.set_exception(error)
            return
        self.items, self.batches = self.items + len(jobs), self.batches + 1
        for (_, future), result in zip(jobs, results, strict=True):
            future.set_result(result)
