"""Whatever is wrong with a checkpoint shows before training goes on from it, as one clear line."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from engine.checkpoint import Checkpoint
from utils.command_line import explain
from utils.errors import ReidError, one_line


class Restoration(Callback):
    """Compares what a checkpoint holds with what the run needs.

    Args:
        checkpoint: from which the run goes on; None for a new run, in which nothing is compared.
    """

    def __init__(self, checkpoint: Checkpoint | None) -> None:
        self._checkpoint = checkpoint
        self._num_states = 0
        self._is_training = False

    @contextmanager
    def errors_named(self) -> Iterator[None]:
        """A block that trains; until its first step, all errors come from the checkpoint.

        Raises:
            ReidError: naming the file.
        """
        try:
            yield
        except Exception as error:  # Lightning and torch check little of what they restore, and fail anywhere
            if self._checkpoint is None or self._is_training or explain(error) is not None:
                raise
            raise self._error(f"{type(error).__name__}: {one_line(error)[:200]}") from error

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Compare the loops.

        Raises:
            ReidError: if an entry is of another kind than in a run that begins.
        """
        self._num_states = len(checkpoint["optimizer_states"])
        if place := _difference(checkpoint["loops"], {"fit_loop": trainer.fit_loop.state_dict()}, "loops"):
            raise self._error(f"{place} is not what a trainer writes")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the optimizers and the position.

        Raises:
            ReidError: if one differs.
        """
        if self._checkpoint is None:
            return
        if self._num_states != len(trainer.optimizers):
            raise self._error(f"it has the states of {self._num_states} optimizers, not of {len(trainer.optimizers)}")
        for optimizer in trainer.optimizers:
            has_moments = any(group.get("betas") or group.get("momentum") for group in optimizer.param_groups)
            if has_moments and not optimizer.state:
                raise self._error(f"the state of its {type(optimizer).__name__} is empty")
        batches = trainer.fit_loop.epoch_loop.batch_progress.current.processed
        position = trainer.current_epoch, 0 if self._checkpoint.position[1] == 0 else batches
        if position != self._checkpoint.position:
            raise self._error(f"its loops are at {position}, it says {self._checkpoint.position} (epoch, batch)")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Note that training goes on."""
        self._is_training = True

    def _error(self, reason: str) -> ReidError:
        path = self._checkpoint.path if self._checkpoint else ""
        return ReidError(
            f"{path} must be a whole checkpoint to go on from, but is damaged ({reason}); resume from "
            "another one, or set MODEL.RESUME_TRAINING False to start a new run from its weights"
        )


def _difference(state: object, fresh: object, place: str) -> str:
    """The first place where a state differs in kind from a fresh one; empty if there is none."""
    if isinstance(fresh, Mapping):
        if not isinstance(state, Mapping):
            return place
        parts = (_difference(state[key], fresh[key], f"{place}.{key}") for key in fresh if key in state)
        return next(filter(None, parts), "")
    is_negative = isinstance(state, int) and state < 0
    return "" if type(state) is type(fresh) and not is_negative else place
