"""Write metrics.csv and the reports of the validations, and stop a run that diverges."""

import csv
import io
import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer

from evaluation.results import Entry, Report, Resolution
from modelling.reid_module import ReidModule
from utils.errors import ReidError
from utils.files import write_text

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.csv"
"""One row per epoch."""


class EpochLog(Callback):
    """Writes ``config.yml``, a row of ``metrics.csv`` per epoch and ``report_{epoch}.json`` per validation.

    Args:
        folder: of the files; it exists.
        config: the effective configuration as YAML text.
        validation_set: name of the data set of the validation.
        resolutions: of the validation.

    Attributes:
        entries: of the last validation.
    """

    def __init__(self, folder: Path, config: str, validation_set: str, resolutions: tuple[Resolution, ...]) -> None:
        self._folder, self._config = folder, config
        self._validation_set, self._resolutions = validation_set, resolutions
        self._start, self._steps = 0.0, 0
        self._validated = False
        self.entries: tuple[Entry, ...] = ()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the configuration; the one of the epochs before a resumption stays beside it."""
        self.on_train_epoch_start(trainer, pl_module)  # Lightning skips it if it resumes within an epoch
        path = self._folder / "config.yml"
        if not trainer.is_global_zero:
            return
        if path.exists() and path.read_text(encoding="utf-8") != self._config:
            path.replace(self._folder / f"config_before_{trainer.current_epoch}.yml")
        write_text(path, self._config)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the epoch."""
        self._start, self._steps, self._validated = time.perf_counter(), 0, False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Count the step."""
        self._steps += 1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the entries of this validation."""
        assert isinstance(pl_module, ReidModule)
        self.entries, self._validated = pl_module.entries, True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the report of a validation and the row of the epoch.

        Raises:
            ReidError: if the loss is not finite.
        """
        epoch = trainer.current_epoch
        values = {
            name.removesuffix("_epoch"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.endswith(("_epoch", "/lr")) or "/lr_" in name or (name.startswith("val/") and self._validated)
        }
        _check_loss(epoch, values.get("train/loss", 0.0))
        if not trainer.is_global_zero:
            return
        if self._validated:
            report = Report(self._validation_set, f"epoch {epoch}", self.entries, resolutions=self._resolutions)
            report.write(self._folder / f"report_{epoch}.json")
            for entry in self.entries:
                logger.info("epoch %d: %s", epoch, entry.summary())
        self._append_row(epoch, values)

    def _append_row(self, epoch: int, values: Mapping[str, float]) -> None:
        """``steps`` is the number of steps behind time and means, which is smaller after an interruption."""
        path = self._folder / METRICS_FILE
        seconds = round(time.perf_counter() - self._start, 2)
        row = {"epoch": epoch, "seconds": seconds, "steps": self._steps, **{k: f"{v:.6g}" for k, v in values.items()}}
        write_metrics(path, [*read_metrics(path), row])


class LastValidation(Callback):
    """Validates after the last epoch, whatever SOLVER.EVAL_PERIOD is."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do the same, because a run may resume within its last epoch."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make Lightning validate after the last epoch; this attribute is the only way."""
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv; none if the file is missing."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_metrics(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write metrics.csv; columns that a row does not have are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _check_loss(epoch: int, loss: float) -> None:
    if not math.isfinite(loss):
        raise ReidError(
            f"the loss of epoch {epoch} is {loss}: training has diverged; lower SOLVER.BASE_LR or set "
            "SOLVER.GRADIENT_CLIP_VAL"
        )
