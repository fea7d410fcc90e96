"""Scripts with options of their own beside those that all scripts share."""

import argparse
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from engine.cli import InterruptedRun, run_script
from engine.settings import Settings
from utils.command_line import OneLineParser
from utils.log import setup_logging


def own_options() -> argparse.ArgumentParser:
    """An empty parser for the options of one script; the shared ones and KEY VALUE pass through it."""
    return OneLineParser(add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS)


def run_with_options(
    action: Callable[[Settings, argparse.Namespace], object],
    parser: argparse.ArgumentParser,
    description: str,
    argv: Sequence[str] | None,
    stopped: str = "stopped; no results were written",
) -> int:
    """As :func:`engine.cli.run_script`, for a script with further options, which SIGTERM stops as Ctrl-C does.

    Args:
        action: what the script does with its settings and its own options.
        parser: from :func:`own_options`, filled.
        description: for ``--help``; the options' help is added.
        argv: arguments without the program's name; None = those of the process.
        stopped: what the log says then.
    """
    own, shared = parser.parse_known_args(argv)
    own_help = parser.format_help().replace("options:", "options of this script:", 1).strip()

    def interruptible(settings: Settings) -> None:
        setup_logging(every_process=True)  # each of torchrun's has images of its own, and names the unreadable ones
        try:
            with _terminated_as_interrupted():
                action(settings, own)
        except KeyboardInterrupt:
            raise InterruptedRun(stopped) from None

    return run_script(interruptible, f"{description.rstrip()}\n\n{own_help}", shared)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, so that temporary files go and what is done is kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
