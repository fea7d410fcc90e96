"""The curves of a run in TensorBoard."""

import logging
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger

logger = logging.getLogger(__name__)

_VALIDATION = re.compile("^val/")


class Board(TensorBoardLogger):
    """Lightning's logger, which ends with a warning where its folder is full or gone; metrics.csv has all figures.

    TensorBoard shows curves by their names: those of the validation come first. Lightning adds the number of the
    epoch to all values; that is no curve anybody needs.

    Args:
        folder: of the event files.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder.parent.parent, name=folder.parent.name, version=folder.name)
        self._works = True
        threading.excepthook = _leave_to_main

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add points to the curves; those of ``val/`` become ``evaluation/``."""
        values = {_VALIDATION.sub("evaluation/", name): value for name, value in metrics.items() if name != "epoch"}
        self._try(super().log_metrics, values, step)

    def save(self) -> None:
        """Flush the files."""
        self._try(super().save)

    def finalize(self, status: str) -> None:
        """Close the files."""
        self._try(super().finalize, status)

    def _try(self, action: Callable[..., None], *arguments: Any) -> None:  # noqa: ANN401 (those of the action)
        if self._works:
            try:
                action(*arguments)
            except (OSError, ValueError) as error:  # Lightning makes a ValueError of any error
                reason = error if isinstance(error, OSError) else error.__cause__
                if not isinstance(reason, OSError):
                    raise
                self._works = False
                logger.warning("no more curves for TensorBoard in %s: %s", self.log_dir, reason.strerror)


def _leave_to_main(arguments: threading.ExceptHookArgs) -> None:
    """The thread that writes the events hands its error to the main thread, and need not print it too."""
    if not isinstance(arguments.exc_value, OSError) or type(arguments.thread).__name__ != "_AsyncWriterThread":
        threading.__excepthook__(arguments)
