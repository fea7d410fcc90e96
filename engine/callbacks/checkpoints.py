"""Write the checkpoints of a run, each with its description and with everything that an exact resumption needs."""

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import Callback, LightningModule, Trainer

from engine.checkpoint import SECTION, RunCard, section
from modelling.reid_module import ReidModule
from utils.files import written_aside

BEST = "best.pth"


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, beside the file that it replaces.

    Lightning's own writes it to the folder of temporary files, and copies it where that is another file system.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any = None,  # noqa: ANN401 (as Lightning declares it)
    ) -> None:
        """Write it; an error of the file system names the file."""
        content = io.BytesIO()  # torch's own writer reports a full disk as an error of its format
        torch.save(checkpoint, content)
        with written_aside(Path(path)) as aside:
            aside.write_bytes(content.getbuffer())


class Checkpoints(Callback):
    """Writes ``{epoch}.pth``, ``{epoch}_last.pth`` and ``best.pth``, and restores random states on resuming.

    Args:
        folder: of the files; it exists.
        card: description of the run, for every checkpoint.
        period: epochs between checkpoints.

    Attributes:
        position: epoch and batch at which training would go on from a checkpoint written now.
    """

    state_key = "RunRecorder"  # checkpoints have always stored the best mAP under this name

    def __init__(self, folder: Path, card: RunCard, period: int) -> None:
        self._folder, self._card, self._period = folder, card, period
        self._best = -math.inf
        self._validation: float | None = None
        self._rng: Mapping[str, Any] | None = None
        self.position = (0, 0)

    def state_dict(self) -> dict[str, Any]:
        """The best mAP so far."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best mAP so far; in a new folder the first validation is the best."""
        best = float(state_dict["best"])
        if (self._folder / BEST).exists() and not math.isnan(best):
            self._best = best

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the run's card and the random states."""
        checkpoint[SECTION] = section(self._card, trainer.current_epoch, self.position, trainer.world_size)
        device = pl_module.device
        states = {"cpu": torch.get_rng_state()}
        if device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(device)
        # One row for each process; a single one has no rows, as in all older checkpoints.
        checkpoint["rng"] = {
            kind: trainer.strategy.all_gather(state.to(device)).cpu() for kind, state in states.items()
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember the random states until training begins."""
        self._rng = checkpoint["rng"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the random states; a process that the checkpoint does not know keeps those of the seed."""
        states = {
            kind: rows.reshape(-1, rows.shape[-1])[trainer.global_rank :] for kind, rows in (self._rng or {}).items()
        }
        # A copy: torch crashes on a state that is a part of another tensor.
        if len(own := states.get("cpu", ())):
            torch.set_rng_state(own[0].clone())
        if len(own := states.get("cuda", ())) and pl_module.device.type == "cuda":
            torch.cuda.set_rng_state(own[0].clone(), pl_module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Count the batch."""
        self.position = (trainer.current_epoch, batch_idx + 1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the mAP until the epoch is complete: to resume from a checkpoint of now would repeat its end."""
        assert isinstance(pl_module, ReidModule)
        self._validation = pl_module.entries[0].result.mAP

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the checkpoints of this epoch."""
        epoch, is_last = trainer.current_epoch, trainer.current_epoch + 1 == trainer.max_epochs
        self.position = (epoch + 1, 0)
        mean_precision, self._validation = self._validation, None
        # One process decides for all, because all of them save, and the last bit may differ between devices.
        if mean_precision is not None and trainer.strategy.broadcast(mean_precision > self._best):
            self._best = mean_precision
            trainer.save_checkpoint(self._folder / BEST)
        if is_last or (epoch % self._period == 0 and (epoch or self._period == 1)):
            trainer.save_checkpoint(self._folder / f"{epoch}{'_last' if is_last else ''}.pth")

    def save_interrupted(self, trainer: Trainer) -> Path:
        """Write a checkpoint of this moment; return its path."""
        path = self._folder / f"{trainer.current_epoch}_interrupted.pth"
        if path.exists():  # a second interruption in this epoch
            path = path.with_stem(f"{path.stem}_{self.position[1]}")
        trainer.save_checkpoint(path)
        return path
