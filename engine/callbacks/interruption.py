"""Stop a run on Ctrl-C and SIGTERM with a checkpoint from which it resumes exactly."""

import logging
import threading
from types import FrameType

from pytorch_lightning import Callback, LightningModule, Trainer

from engine.callbacks.checkpoints import Checkpoints
from modelling.reid_module import ReidModule
from utils.signals import InterruptedRun, set_handlers

logger = logging.getLogger(__name__)


class Interruption(Callback):
    """Stops after the current step on the first signal, at once on the second.

    Clusters send SIGTERM before they take a machine away. Several processes must stop after the same step: they ask
    one another every SOLVER.LOG_PERIOD steps, where the host waits for the device's values anyway.

    Args:
        checkpoints: writes the checkpoint; must precede this callback in the trainer's list.
        period: steps between two questions of several processes.
    """

    def __init__(self, checkpoints: Checkpoints, period: int) -> None:
        self._checkpoints, self._period = checkpoints, period
        self._stop, self._is_agreed = threading.Event(), False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Handle the signals from now on; the trainer restores the earlier handlers at its end."""
        set_handlers(self._on_signal)
        # Lightning would ask the first process before each step whether it stops, and wait for the device.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Stop here if a signal came, unless the epoch is over anyway."""
        batches = int(trainer.num_training_batches)
        step = trainer.current_epoch * batches + batch_idx + 1
        if trainer.world_size == 1 or step % self._period == 0:
            self._is_agreed = self._came_to_any(trainer)
        assert isinstance(pl_module, ReidModule)
        if self._is_agreed and pl_module.is_between_steps and batch_idx + 1 < batches:
            self._interrupt(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop here if a signal came to any process, unless training is over anyway."""
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        if not is_last and self._came_to_any(trainer):
            self._interrupt(trainer)

    def _came_to_any(self, trainer: Trainer) -> bool:
        """Whether a signal came to any process; a collective call."""
        return trainer.strategy.reduce_boolean_decision(self._stop.is_set(), all=False)

    def _interrupt(self, trainer: Trainer) -> None:
        path = self._checkpoints.save_interrupted(trainer)
        # Lightning kills the first process of a machine where another one ends before it.
        getattr(trainer.strategy.launcher, "procs", []).clear()
        trainer.strategy.barrier()
        raise InterruptedRun(f"stopped; go on with MODEL.RESUME_TRAINING True MODEL.PRETRAIN_PATH {path}")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stop.is_set():
            raise InterruptedRun("stopped at once; go on from the last checkpoint of the run")
        self._stop.set()
        logger.warning(
            "the run stops after this step, several processes within SOLVER.LOG_PERIOD steps; "
            "the next signal stops it at once"
        )
