"""A lock between processes that ends with the process that holds it, however that ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.errors import ReidError

_held: set[int] = set()


@contextmanager
def only_process(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends.

    Processes forked meanwhile (decoders) do not hold it: they may outlive their parent by seconds.

    Args:
        path: the lock's file; its folder must exist.
        wait: for another process that holds it.

    Raises:
        ReidError: if another process holds it and ``wait`` is False.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    _held.add(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    except BlockingIOError as error:
        raise ReidError(f"another process is at work on {path.parent / path.stem}; wait for it or stop it") from error
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _let_go_in_child() -> None:
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go_in_child)
