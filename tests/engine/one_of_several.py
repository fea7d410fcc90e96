"""One of several processes that train, stop within an epoch and go on; a test starts it as a cluster does.

Arguments: those of the training. It prints, as JSON, what this process has seen.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from pytorch_lightning import Callback, Trainer
from torch.nn import functional as F

from modelling.reid_module import ReidModule
from tests.engine.support import add_callback, resume
from tests.support import fit
from utils.signals import InterruptedRun


class Draws(Callback):
    """Lets the network draw random numbers, others in each process, and counts what else the processes exchange."""

    def __init__(self, patch: pytest.MonkeyPatch, *, seeds: bool) -> None:
        self._patch = patch
        self._seeds, self._broadcasts, self._before = seeds, 0, 0

    def on_train_start(self, trainer: Trainer, module: ReidModule) -> None:
        if self._seeds:
            torch.manual_seed(trainer.global_rank)
        module.network.backbone.register_forward_hook(lambda m, _, maps: F.dropout(maps, 0.2, m.training))
        self._patch.setattr(dist, "broadcast", self._counted(dist.broadcast))

    def _counted(self, broadcast: Callable[..., object]) -> Callable[..., object]:
        def count(*arguments: object, **options: object) -> object:
            self._broadcasts += 1
            return broadcast(*arguments, **options)

        return count

    def on_train_epoch_start(self, *_: object) -> None:
        self._before = self._broadcasts

    def on_train_batch_end(self, *_: object) -> None:
        assert self._broadcasts == self._before  # a step sends gradients alone


class StopLast(Callback):
    """A cluster stops the last process during the first step."""

    def on_train_batch_start(self, trainer: Trainer, _: object, __: object, batch_idx: int) -> None:
        if trainer.global_rank == trainer.world_size - 1 and trainer.current_epoch == batch_idx == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: list[str]) -> None:
    """Train, then once more with a stop and a resumption."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        add_callback(patch, Draws(patch, seeds=True))
        straight = fit(arguments)
    losses = float(straight.trainer.callback_metrics["train/loss_epoch"])
    with pytest.MonkeyPatch.context() as patch:
        add_callback(patch, Draws(patch, seeds=True), StopLast())
        with pytest.raises(InterruptedRun):
            fit(arguments)
    logs = Path(arguments[arguments.index("LOGS_DIR") + 1])
    (path,) = logs.rglob("*_interrupted.pth")
    with pytest.MonkeyPatch.context() as patch:
        add_callback(patch, Draws(patch, seeds=False))
        fit([*arguments, *resume(path)])
    trainer = straight.trainer
    sys.stdout.write(
        json.dumps({"rank": trainer.global_rank, "size": trainer.world_size, "loss": losses, "path": str(path)})
    )


if __name__ == "__main__":
    main(sys.argv[1:])
