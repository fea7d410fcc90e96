"""What a run leaves on disk: checkpoints, metrics.csv, reports; and how it stops and goes on."""

import logging
import math
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from engine.checkpoint import SECTION, RunCard, section
from engine.cli import InterruptedRun
from engine.folders import BEST, METRICS, read_metrics, write_metrics
from evaluation.results import Entry, Report, Resolution
from modelling.reid_module import ReidModule
from utils.errors import ReidError
from utils.files import write_text

logger = logging.getLogger(__name__)


class RunRecorder(Callback):
    """Writes the files of a run.

    The first Ctrl-C (or SIGTERM, as clusters send before they take a machine) stops after the current
    step, with a checkpoint from which training goes on as if nothing had happened; several processes stop
    after the current epoch, where all are at the same place. A second Ctrl-C stops at once.

    Args:
        folder: where the files go; made by the caller.
        card: what every checkpoint says about the run.
        keep_every: epochs between kept checkpoints.
        validated_on: the data set of the validation.
        resolutions: of the validation.

    Attributes:
        last: the entries of the last validation.
    """

    def __init__(
        self, folder: Path, card: RunCard, keep_every: int, validated_on: str, resolutions: tuple[Resolution, ...]
    ) -> None:
        self._folder, self._card, self._keep_every = folder, card, keep_every
        self._validated_on, self._resolutions = validated_on, resolutions
        self._best = -math.inf
        self._position = (0, 0)
        self._rng: Mapping[str, Any] | None = None
        self._stop = threading.Event()
        self._handlers: dict[int, Any] = {}
        self._began, self._steps = 0.0, 0
        self.last: tuple[Entry, ...] = ()

    def state_dict(self) -> dict[str, Any]:
        """The best mAP so far."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the best mAP so far."""
        if (self._folder / BEST).exists():  # in a new folder the best begins anew, and is written
            self._best = state_dict["best"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what makes the file describe itself, and the random state."""
        checkpoint[SECTION] = section(self._card, trainer.current_epoch, self._position, trainer.world_size)
        checkpoint["rng"] = {"cpu": torch.get_rng_state()}
        if pl_module.device.type == "cuda":
            checkpoint["rng"]["cuda"] = torch.cuda.get_rng_state(pl_module.device)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember the random state until training begins."""
        self._rng = checkpoint["rng"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the random state; write config.yml; take over the signals."""
        if self._rng is not None and trainer.is_global_zero:
            torch.set_rng_state(self._rng["cpu"])
            if "cuda" in self._rng and pl_module.device.type == "cuda":
                torch.cuda.set_rng_state(self._rng["cuda"], pl_module.device)
        if trainer.is_global_zero:
            self._write_config(trainer.current_epoch)
        self._begin_epoch(trainer)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._on_signal)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the epoch; see that the last one is validated."""
        self._begin_epoch(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Stop here, if asked to, unless the epoch is over anyway."""
        self._position = (trainer.current_epoch, batch_idx + 1)
        self._steps += 1
        if self._stop.is_set() and trainer.world_size == 1 and batch_idx + 1 < trainer.num_training_batches:
            self._interrupt(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the row of metrics.csv, the report and the checkpoints of this epoch."""
        assert isinstance(pl_module, ReidModule)
        epoch = trainer.current_epoch
        self._position = (epoch + 1, 0)
        values = {
            name.removesuffix("_epoch"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.endswith(("_epoch", "/lr")) or "/lr_" in name or (name.startswith("val/") and pl_module.results)
        }
        loss = values.get("train/loss", 0.0)
        if not math.isfinite(loss):
            raise ReidError(
                f"the loss of epoch {epoch} is {loss}: training has diverged; lower SOLVER.BASE_LR or set "
                "SOLVER.GRADIENT_CLIP_VAL"
            )
        if pl_module.results:
            self._record_results(trainer, pl_module, epoch)
        if trainer.is_global_zero:
            self._append_metrics(epoch, values)
        last = epoch + 1 == trainer.max_epochs
        if last or (epoch % self._keep_every == 0 and (epoch or self._keep_every == 1)):
            trainer.save_checkpoint(self._folder / f"{epoch}{'_last' if last else ''}.pth")
        if not last and trainer.strategy.broadcast(self._stop.is_set()):
            self._interrupt(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _record_results(self, trainer: Trainer, module: ReidModule, epoch: int) -> None:
        entries, module.results = module.results, ()
        self.last = entries
        path = self._folder / BEST
        if trainer.is_global_zero:
            report = Report(self._validated_on, f"epoch {epoch}", entries, resolutions=self._resolutions)
            report.write(self._folder / f"report_{epoch}.json")
            for entry in entries:
                logger.info("epoch %d: %s", epoch, entry.summary())
        # One process decides for all: saving is a common act, and a last bit may differ between devices.
        if trainer.strategy.broadcast(entries[0].result.mAP > self._best):
            self._best = entries[0].result.mAP
            trainer.save_checkpoint(path)

    def _begin_epoch(self, trainer: Trainer) -> None:
        self._began, self._steps = time.perf_counter(), 0
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1

    def _write_config(self, epoch: int) -> None:
        """The effective configuration; that of the epochs before a resumption stays beside it."""
        path = self._folder / "config.yml"
        if path.exists() and path.read_text(encoding="utf-8") != self._card.config:
            path.replace(self._folder / f"config_before_{epoch}.yml")
        write_text(path, self._card.config)

    def _append_metrics(self, epoch: int, values: Mapping[str, float]) -> None:
        """One row per epoch; ``steps`` tells how many its time and means are of: fewer after an interruption."""
        path = self._folder / METRICS
        seconds = round(time.perf_counter() - self._began, 2)
        row = {"epoch": epoch, "seconds": seconds, "steps": self._steps, **{k: f"{v:.6g}" for k, v in values.items()}}
        write_metrics(path, [*read_metrics(path), row])

    def _interrupt(self, trainer: Trainer) -> None:
        path = self._folder / f"{trainer.current_epoch}_interrupted.pth"
        if path.exists():  # this epoch was stopped before
            path = path.with_stem(f"{path.stem}_{self._position[1]}")
        trainer.save_checkpoint(path)
        raise InterruptedRun(f"stopped; go on with MODEL.RESUME_TRAINING True MODEL.PRETRAIN_PATH {path}")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stop.is_set():
            raise KeyboardInterrupt
        self._stop.set()
        logger.warning("stopping after this step, or this epoch with several processes (again: at once)")
