"""Log each epoch in one line, write metrics.csv and the reports of the validations, and stop a run that diverges."""

import csv
import io
import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from datasets.batch import Batch
from evaluation.results import Entry, Report, Resolution
from modelling.reid_module import ReidModule
from utils.errors import ReidError, one_line
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
        self._start, self._steps, self._images = 0.0, 0, 0
        self._run_start, self._first_epoch = 0.0, 0
        self._training_end = 0.0  # of the epoch, before its validation
        self._validated = False
        self.entries: tuple[Entry, ...] = ()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the configuration; the one of the epochs before a resumption stays beside it."""
        self.on_train_epoch_start(trainer, pl_module)  # Lightning skips it if it resumes within an epoch
        self._run_start, self._first_epoch = self._start, trainer.current_epoch
        path = self._folder / "config.yml"
        if not trainer.is_global_zero:
            return
        before = self._folder / f"config_before_{trainer.current_epoch}.yml"
        differs = path.exists() and path.read_text(encoding="utf-8", errors="replace") != self._config
        if differs and not before.exists():
            path.replace(before)
        write_text(path, self._config)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the epoch."""
        self._start, self._steps, self._images, self._validated = time.perf_counter(), 0, 0, False
        self._training_end = self._start

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Count the step and its images."""
        self._steps += 1
        self._images += len(batch.labels) * trainer.world_size
        self._training_end = time.perf_counter()

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
        values |= _means_of_all(trainer, {name: value for name, value in values.items() if name.startswith("train/")})
        _check_loss(epoch, values.get("train/loss", 0.0))
        if not trainer.is_global_zero:
            return
        if self._validated:
            report = Report(self._validation_set, f"epoch {epoch}", self.entries, resolutions=self._resolutions)
            report.write(self._folder / f"report_{epoch}.json")
            for entry in self.entries:
                logger.info("epoch %d: %s", epoch, entry.summary())
        self._append_row(epoch, values)
        logger.info("epoch %d: %s", epoch, self._line(trainer, values))

    def _line(self, trainer: Trainer, values: Mapping[str, float]) -> str:
        """The loss with its parts, the rate, the speed and the time to the end, for people."""
        parts = ", ".join(
            f"{name.removeprefix('train/')} {value:.4g}"
            for name, value in values.items()
            if name.count("/") == 1 and name.startswith("train/") and not name.startswith(("train/loss", "train/lr"))
        )
        now, end = time.perf_counter(), trainer.max_epochs or 0
        speed = self._images / max(self._training_end - self._start, 1e-9)
        done = trainer.current_epoch + 1 - self._first_epoch
        left = (now - self._run_start) / done * (end - trainer.current_epoch - 1)
        return (
            f"loss {values.get('train/loss', math.nan):.4g} ({parts}), rate {values.get('train/lr', math.nan):.3g}, "
            f"{speed:.0f} images/s, {_duration(left)} left"
        )

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
    """The rows of metrics.csv; none if the file is missing.

    Raises:
        ReidError: if it is damaged.
    """
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if any(not row["epoch"].isdecimal() or None in row or None in row.values() for row in rows):
            raise ValueError("a row is not whole")
    except (ValueError, KeyError, AttributeError, csv.Error) as error:
        raise ReidError(
            f"{path} must be the table of a run, but is damaged ({one_line(error)}); repair it or move it away"
        ) from error
    return rows


def write_metrics(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write metrics.csv; columns that a row does not have are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _means_of_all(trainer: Trainer, values: Mapping[str, float]) -> dict[str, float]:
    """The means over all processes, each of which has seen its own share of the epoch."""
    own = torch.tensor(list(values.values()), device=trainer.strategy.root_device)
    return dict(zip(values, trainer.strategy.reduce(own, reduce_op="mean").tolist(), strict=True))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _check_loss(epoch: int, loss: float) -> None:
    if not math.isfinite(loss):
        raise ReidError(
            f"the loss of epoch {epoch} is {loss}: training has diverged; lower SOLVER.BASE_LR or set "
            "SOLVER.GRADIENT_CLIP_VAL"
        )
