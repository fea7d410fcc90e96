"""Log messages for people: one handler, one line each, on stderr."""

import logging
import sys
import warnings

from pytorch_lightning.utilities import rank_zero_only
from tqdm import tqdm


class _BesideBars(logging.Handler):
    """Writes a line to stderr without breaking a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def setup_logging() -> None:
    """Send the project's log to stderr; called once by each script."""
    first = getattr(rank_zero_only, "rank", 0) == 0  # of several processes one speaks
    logging.basicConfig(
        level=logging.INFO if first else logging.ERROR,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        handlers=[_BesideBars()],
        force=True,
    )
    # Lightning's hints speak to its programmers (num_workers, sampler wrappers), not to our users.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for module in ("pytorch_lightning", "lightning_fabric", "torch.utils.data"):
        warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")
