"""Log messages for people: one line each, on stderr and in the folder of a run."""

import logging
import os
import sys
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from utils.command_line import explain
from utils.errors import one_line
from utils.text import printable

_FOR_PROGRAMMERS = ("pytorch_lightning", "lightning", "onnx_ir", "onnxscript")  # loggers
# In Lightning's order, so that both agree on which process is the first.
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


class LineFormatter(logging.Formatter):
    """Time, level and message; a file name in the message can neither begin a new line nor command the terminal.

    Args:
        time: format of the time; None = with the date.
    """

    def __init__(self, time: str | None = "%H:%M:%S") -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", time)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (of logging)
        """The line without a traceback, which follows it."""
        record.message = printable(record.message)
        return super().formatMessage(record)


def _is_for_users(record: logging.LogRecord) -> bool:
    """Hints of Lightning (devices, num_workers) and steps of ONNX's exporter are for programmers.

    A level would not do: Lightning's import resets its own.
    """
    return record.levelno >= logging.WARNING or not record.name.startswith(_FOR_PROGRAMMERS)


class _BesideBars(logging.Handler):
    """Writes a line to stderr without breaking a progress bar."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(LineFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except OSError:  # a stderr that is full or broken must not end the work
            self.handleError(record)


class _Earlier(logging.Handler):
    """Keeps the last messages until a run has a folder."""

    def __init__(self) -> None:
        super().__init__()
        self.records: deque[logging.LogRecord] = deque(maxlen=1000)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def setup_logging(every_process: bool = False) -> None:
    """Send the project's log to stderr; called by each script.

    Args:
        every_process: each of several processes (torchrun, SLURM, Lightning's own) logs, because each has work of its
            own; otherwise the first one logs, and the others log errors only.
    """
    handlers = [_BesideBars(), _Earlier()]
    for handler in handlers:
        handler.addFilter(_is_for_users)
    level = logging.INFO if every_process or _rank() == 0 else logging.ERROR
    logging.basicConfig(level=level, handlers=handlers, force=True)
    logging.raiseExceptions = False  # a message that cannot be written is no reason for a traceback
    for module in ("pytorch_lightning", "lightning_fabric", "torch.utils.data"):
        warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Append the messages of the block to a file, after those that came before it, and the error that ends it."""
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(LineFormatter(None))
    handler.addFilter(_is_for_users)
    root = logging.getLogger()
    for earlier in root.handlers[:]:
        if isinstance(earlier, _Earlier):
            while earlier.records:
                handler.handle(earlier.records.popleft())
            root.removeHandler(earlier)
    root.addHandler(handler)
    try:
        yield
    except BaseException as error:
        level = logging.ERROR if isinstance(error, Exception) else logging.WARNING
        reason = explain(error) or one_line(error)
        handler.handle(logging.LogRecord(__name__, level, __file__, 0, "%s", (reason,), None))
        raise
    finally:
        root.removeHandler(handler)
        handler.close()


def _rank() -> int:
    """The rank of this process in a distributed run; 0 if it is the only one."""
    text = next((os.environ[name] for name in _RANKS if name in os.environ), "0")
    if text == "0" and "RANK" not in os.environ:  # the first of its machine
        text = os.environ.get("NODE_RANK", "0")
    return int(text) if text.isdecimal() else 0  # a script refuses another text later, in words
