"""Ctrl-C and SIGTERM: what stops a script, what waits for the end of a block, and what leaves them to another."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what clusters send before they take a machine away."""

Handler = Callable[[int, FrameType | None], None]


class InterruptedRun(BaseException):
    """The user or the cluster stopped a run; the message says what remains of it."""


def stop_on_signals(message: str) -> None:
    """Let the stop signals raise :class:`InterruptedRun`; outside the main thread they stay as they are.

    It is no KeyboardInterrupt, on which Lightning ends the process with an exit code of its own.
    """

    def stop(_: int, __: FrameType | None) -> None:
        raise InterruptedRun(message)

    set_handlers(stop)


def ignore_signals() -> None:
    """Let the stop signals do nothing, because the process is about to end anyway or another one answers them."""
    set_handlers(signal.SIG_IGN)


def set_handlers(handler: Handler | signal.Handlers) -> None:
    """Set the handler of the stop signals, where Python allows it: in the main thread."""
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            signal.signal(number, handler)


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Let the stop signals wait until the end of the block.

    Python swallows an exception that a handler raises while the process forks; and who cleans up must not be stopped.
    A process that begins in the block has the signals blocked until it calls :func:`receive_signals`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: set[int] = set()
    handlers = {number: signal.signal(number, lambda number, _: pending.add(number)) for number in STOP_SIGNALS}
    mask = _change_mask("SIG_BLOCK", STOP_SIGNALS)
    try:
        yield
    finally:
        _change_mask("SIG_SETMASK", mask)
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for arrived in sorted(pending):
            signal.raise_signal(arrived)


def receive_signals() -> None:
    """Let a process that began within :func:`deferred_signals` answer signals, by the handlers that it has set."""
    _change_mask("SIG_UNBLOCK", STOP_SIGNALS)


def _change_mask(how: str, signals: Iterable[int]) -> set[signal.Signals | int]:
    """Change which signals this thread and the processes that it begins block; the mask before. Windows has none."""
    if not hasattr(signal, "pthread_sigmask"):
        return set()
    return signal.pthread_sigmask(getattr(signal, how), signals)
