"""The two ends of a script: its options, and the one line and the exit code that an exception becomes."""

import argparse
import errno
import io
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from tqdm import tqdm

from utils.errors import ReidError, did_you_mean
from utils.signals import InterruptedRun, ignore_signals, stop_on_signals
from utils.text import printable

logger = logging.getLogger(__name__)

EXIT_USER_ERROR, EXIT_INTERRUPTED = 2, 130

_LONGEST = 1000  # characters of a message

_FEWER_IMAGES = "lower SOLVER.IMS_PER_BATCH, TEST.IMS_PER_BATCH or DATALOADER.NUM_WORKERS"
_SHARED_MEMORY = "/dev/shm is too small: start the container with --shm-size 2g, or set DATALOADER.NUM_WORKERS 0"
_ERRNO_REMEDIES = {
    errno.EMFILE: "allow more open files (ulimit -n 4096), or set DATALOADER.NUM_WORKERS 0",
    errno.ENOMEM: f"memory ran out: {_FEWER_IMAGES}",
    errno.EAGAIN: "the system allows no more processes: lower DATALOADER.NUM_WORKERS or --workers",
}
# What torch and the processes of a run say of the limits of a machine, and the remedies; the first match counts.
_REMEDIES = (
    ("Too many open files", _ERRNO_REMEDIES[errno.EMFILE]),
    (f"exit code {errno.EMFILE}.", _ERRNO_REMEDIES[errno.EMFILE]),  # as a worker ends that cannot hand over its batch
    (f"exit code {errno.ENOSPC}.", _SHARED_MEMORY),
    ("shared memory", _SHARED_MEMORY),
    ("file </torch_", _SHARED_MEMORY),
    ("DefaultCPUAllocator", _ERRNO_REMEDIES[errno.ENOMEM]),
    ("not enough memory", _ERRNO_REMEDIES[errno.ENOMEM]),
    ("DataLoader worker", "if memory ran out, lower DATALOADER.NUM_WORKERS or the batch size"),
    # The words of gloo (the first two) and of NCCL.
    *(
        (words, "another process of this run stopped: its message is above")
        for words in ("Connection closed by peer", "Connection reset by peer", "remote process exited")
    ),
)


class OneLineParser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line, without its usage text.

    Attributes:
        program: names the program where a script does not; empty = the file of the script.
    """

    program: ClassVar[str] = ""

    def __init__(self, prog: str | None = None, **options: Any) -> None:  # noqa: ANN401 (of argparse)
        super().__init__(prog or self.program or None, **options)

    def error(self, message: str) -> NoReturn:
        """Report a wrong option and exit."""
        option = re.match(r"unrecognized arguments: .*?(--[\w-]+)", message)
        remedy = did_you_mean(option[1], self._option_string_actions) if option else ""
        self.fail(message + (remedy or "; see --help"))

    def fail(self, mistake: str) -> NoReturn:
        """Report a mistake that the list of options does not help with, and exit."""
        self.exit(EXIT_USER_ERROR, f"error: {printable(' '.join(mistake.split()))}\n")


@contextmanager
def program_name(name: str) -> Iterator[None]:
    """Let the parsers of the block call the program so; ``sys.argv`` stays, by which Lightning starts processes."""
    before, OneLineParser.program = OneLineParser.program, name
    try:
        yield
    finally:
        OneLineParser.program = before


def number(kind: type[int] | type[float], lowest: float, highest: float = math.inf) -> Callable[[str], Any]:
    """The ``type`` of an option that takes a number.

    Args:
        kind: ``int`` or ``float``.
        lowest: smallest value that is allowed.
        highest: largest value that is allowed.
    """

    def convert(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(lowest - 1)
        if not lowest <= value <= highest:
            limits = f"from {lowest} to {highest}" if highest < math.inf else f"of {lowest} or more"
            name = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"must be a {name} {limits}, got {text!r}")
        return value

    return convert


def exit_code(work: Callable[[], object], interruption: str = "stopped") -> int:
    """Do the work of a script, which Ctrl-C and SIGTERM interrupt; signals that come after it do nothing.

    Args:
        work: what the script does.
        interruption: what the log says of a stop where the work itself says nothing.

    Returns:
        0; 2 after a user's mistake, an error of the file system, or a loss of memory or of a process (one line says
        which); 130 after an interruption.
    """
    _open_closed_streams()
    stop_on_signals(interruption)
    try:
        try:
            work()
        finally:
            ignore_signals()
    except InterruptedRun as stop:
        ignore_signals()  # once more: the signal may have come within the first call
        logger.warning("%s", stop)
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        if (line := explain(error)) is None:
            raise
        with suppress(OSError):  # a stderr that is full or broken
            tqdm.write(f"error: {printable(line)}", file=sys.stderr)  # not at the end of a progress bar
        return EXIT_USER_ERROR
    finally:
        _drop_unwritten()
    return 0


def explain(error: BaseException) -> str | None:
    """One line for a mistake of the user or a limit of the machine, with its remedy; None for a fault of ours."""
    if isinstance(error, ReidError):
        return _last_line(error)
    if isinstance(error, OSError):
        place = error.filename or _ERRNO_REMEDIES.get(error.errno or 0, "no file named")
        return f"{error.strerror or _last_line(error)}: {place}"
    if type(error).__name__ == "OutOfMemoryError":  # of torch, which a script that fails early never imports
        return f"{_last_line(error)}; {_FEWER_IMAGES}, or set TRAINER.PRECISION bf16-mixed"
    if isinstance(error, MemoryError):
        return f"{_last_line(error)}; {_ERRNO_REMEDIES[errno.ENOMEM]}"
    return _limit(error) if isinstance(error, RuntimeError) else None


def _limit(error: RuntimeError) -> str | None:
    """A limit of the machine that torch tells, with its remedy; the cause of an error says which worker ended how."""
    for cause in (error.__cause__ or error, error):
        for words, remedy in _REMEDIES:
            if words in str(cause):
                return f"{_last_line(cause)}; {remedy}"
    return None


def show(text: str) -> None:
    """Write a result to stdout; a reader that has gone, such as ``head``, wants no more of it.

    Raises:
        OSError: if stdout is a file that cannot be written; it names ``stdout``.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        return
    except OSError as error:
        raise OSError(error.errno, error.strerror, "stdout") from error


def show_tables(*tables: object) -> None:
    """Write tables of rich to stdout, as :func:`show`."""
    from rich.console import Console  # takes as long as all other imports of a script

    terminal, encoding = Console(), getattr(sys.stdout, "encoding", None) or "utf-8"
    buffer = io.BytesIO()  # rich itself ends the process where a pipe is broken
    with io.TextIOWrapper(buffer, encoding, "backslashreplace", write_through=True) as file:
        console = Console(file=file, width=terminal.width, force_terminal=terminal.is_terminal)
        for table in tables:
            console.print(table)
        show(buffer.getvalue().decode(encoding))


def _open_closed_streams() -> None:
    """Open the standard streams that the caller has closed, and let them take any text.

    A library would fail on a stream that is None, and the next file that is opened would be taken for it.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 (for the whole process)
        elif hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names that the encoding of a terminal does not have


def _drop_unwritten() -> None:
    """Drop what a stream cannot take, for which Python would end in a message and an exit code of its own."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # noqa: PERF203 (two rounds)
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _last_line(error: BaseException) -> str:
    """The message on one line; that of an error in a loader's worker has a traceback before it."""
    text = str(error).strip()
    if text.startswith("Caught "):
        text = text.splitlines()[-1].partition(": ")[2] or text
    return " ".join(text.split())[:_LONGEST] or type(error).__name__
