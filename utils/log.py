"""Log messages for people: one handler, one line each, on stderr."""

import logging
import os
import sys
import warnings

from tqdm import tqdm

from utils.text import printable

# In Lightning's order, so that both agree on which process is the first.
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


class LineFormatter(logging.Formatter):
    """Time, level and message; a file name in the message can neither begin a new line nor command the terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (of logging)
        """The line without a traceback, which follows it."""
        record.message = printable(record.message)
        return super().formatMessage(record)


class _BesideBars(logging.Handler):
    """Writes a line to stderr without breaking a progress bar."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(LineFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def setup_logging(every_process: bool = False) -> None:
    """Send the project's log to stderr; called by each script.

    Args:
        every_process: each of several processes (torchrun, SLURM, Lightning's own) logs, because each has work of its
            own; otherwise the first one logs, and the others log errors only.
    """
    logging.basicConfig(
        level=logging.INFO if every_process or _rank() == 0 else logging.ERROR,
        handlers=[_BesideBars()],
        force=True,
    )
    # Lightning's hints (num_workers, sampler wrappers) are for programmers, not for our users.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for module in ("pytorch_lightning", "lightning_fabric", "torch.utils.data"):
        warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")


def _rank() -> int:
    """The rank of this process in a distributed run; 0 if it is the only one."""
    return int(next((os.environ[name] for name in _RANKS if name in os.environ), "0"))
