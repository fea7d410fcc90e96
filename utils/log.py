"""Log messages for people: one handler, short lines on stderr."""

import logging
import warnings

from rich.console import Console
from rich.logging import RichHandler


def setup_logging(*, verbose: bool = False) -> None:
    """Send the project's log to stderr; called once by each script."""
    handler = RichHandler(console=Console(stderr=True), show_path=False, show_level=True, markup=False)
    handler.setFormatter(logging.Formatter("%(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
    # Lightning's hints speak to its programmers (num_workers, sampler wrappers), not to our users.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for module in ("pytorch_lightning", "lightning_fabric", "torch.utils.data"):
        warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")
