"""A torch loader whose workers neither hang nor outlive their work."""

import multiprocessing
from typing import Any, TypeVar

from torch.utils.data import DataLoader, Dataset

from utils.processes import begin_worker
from utils.signals import deferred_signals

T = TypeVar("T")


class Loader(DataLoader[T]):
    """A loader that its owner closes.

    Args:
        dataset: of items.
        options: of torch's loader.
    """

    def __init__(self, dataset: Dataset[T], **options: Any) -> None:  # noqa: ANN401 (as torch declares them)
        super().__init__(dataset, worker_init_fn=begin_worker, **options)
        self._batches: Any = None  # torch's iterator, whose type is private

    def __iter__(self) -> Any:  # noqa: ANN401 (torch's own type is private)
        """Start the workers, undisturbed by signals."""
        before = set(multiprocessing.active_children())
        with deferred_signals():
            try:
                self._batches = super().__iter__()
            except BaseException:  # of several workers not all could start
                for process in set(multiprocessing.active_children()) - before:
                    process.kill()
                raise
        return self._batches

    def close(self) -> None:
        """End the workers.

        They ignore the SIGTERM with which Python ends its processes, and Python would wait for them for ever. torch
        ends those that still take orders; the others are killed.
        """
        with deferred_signals():
            if hasattr(self._batches, "_shutdown_workers"):
                self._batches._shutdown_workers()
                for worker in self._batches._workers:
                    worker.kill()
