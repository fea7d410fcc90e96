"""Stop a run on Ctrl-C and SIGTERM with a checkpoint from which it resumes exactly."""

import logging
import threading
from types import FrameType

from pytorch_lightning import Callback, LightningModule, Trainer

from engine.callbacks.checkpoints import Checkpoints
from utils.signals import InterruptedRun, set_handlers

logger = logging.getLogger(__name__)


class Interruption(Callback):
    """Stops after the current step on the first signal, at once on the second.

    Clusters send SIGTERM before they take a machine away. Several processes stop after the current epoch, where all
    of them have reached the same step.

    Args:
        checkpoints: writes the checkpoint; must precede this callback in the trainer's list.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self._stop = threading.Event()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Handle the signals from now on; the trainer restores the earlier handlers at its end."""
        set_handlers(self._on_signal)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Stop here if a signal came, unless the epoch is over anyway."""
        if self._stop.is_set() and trainer.world_size == 1 and batch_idx + 1 < trainer.num_training_batches:
            self._interrupt(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop here if a signal came to any process, unless training is over anyway."""
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        if not is_last and trainer.strategy.broadcast(self._stop.is_set()):
            self._interrupt(trainer)

    def _interrupt(self, trainer: Trainer) -> None:
        path = self._checkpoints.save_interrupted(trainer)
        raise InterruptedRun(f"stopped; go on with MODEL.RESUME_TRAINING True MODEL.PRETRAIN_PATH {path}")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stop.is_set():
            raise InterruptedRun("stopped at once; go on from the last checkpoint of the run")
        self._stop.set()
        logger.warning("stopping after this step, or this epoch with several processes (again: at once)")
