"""In which order the callbacks of a run act, and that none misses its event by a wrong name."""

from pathlib import Path
from typing import NamedTuple

import pytest
from pytorch_lightning import Callback, LightningModule, Trainer

from engine.callbacks.checkpoints import Checkpoints
from engine.callbacks.epoch_log import EpochLog, LastValidation, read_metrics
from engine.callbacks.interruption import Interruption
from engine.callbacks.progress import EpochBar
from engine.checkpoint import SECTION
from tests.engine.support import add_callback
from tests.support import fit


class Save(NamedTuple):
    """What is there when a checkpoint is written."""

    epoch: int
    position: tuple[int, int]
    rows: int
    files: list[str]


class Witness(Callback):
    """Looks around at each checkpoint and each validation."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.saves: list[Save] = []
        self.validations: list[int] = []

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, dict]) -> None:
        (folder,) = self.logs.rglob("exp0")
        section = checkpoint[SECTION]
        files = sorted(path.name for path in folder.iterdir() if path.suffix in (".pth", ".json"))
        rows = len(read_metrics(folder / "metrics.csv"))
        self.saves.append(Save(section["epoch"], tuple(section["position"]), rows, files))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validations.append(trainer.current_epoch)


def test_a_checkpoint_comes_after_its_epochs_row_and_report(
    tiny_arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a crash between them loses the checkpoint, and never the row of an epoch that will not come again."""
    witness = Witness(tmp_path / "logs")
    add_callback(monkeypatch, witness)
    still = ("SOLVER.BASE_LR", "1e-12", "SOLVER.OPTIMIZER_NAME", "SGD", "SOLVER.EVAL_PERIOD", "2")
    fit(tiny_arguments, *still, "SOLVER.MAX_EPOCHS", "3", "SOLVER.CHECKPOINT_PERIOD", "2")
    assert witness.validations == [1, 2]  # by the period; and the last epoch, whatever the period
    first, *others = witness.saves
    assert first == Save(1, (2, 0), 2, ["report_1.json"])  # the first validation makes the first best.pth
    assert others[-1] == Save(2, (3, 0), 3, ["best.pth", "report_1.json", "report_2.json"])
    assert {save.epoch for save in others} == {2}


@pytest.mark.parametrize("callback", [Checkpoints, EpochLog, Interruption, LastValidation, EpochBar])
def test_hooks_of_callbacks_are_lightnings(callback: type[Callback]) -> None:
    ours = {name for name in vars(callback) if name.startswith("on_")}
    assert ours
    assert ours <= set(dir(Callback))
