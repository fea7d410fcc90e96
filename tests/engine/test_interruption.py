"""What Ctrl-C leaves."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pytorch_lightning import Callback

from engine import run
from engine.builders.trainer import build_trainer
from engine.callbacks.checkpoints import Checkpoints
from engine.callbacks.epoch_log import EpochLog, LastValidation
from engine.callbacks.interruption import Interruption
from engine.cli import InterruptedRun
from engine.weights import read_weights
from tests.support import fit

ROOT = Path(__file__).resolve().parents[2]


class StopAt(Callback):
    """Presses Ctrl-C during a step."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.at = (epoch, batch)

    def on_train_batch_start(self, trainer: object, module: object, batch: object, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == self.at:  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGINT)
            self.at = (-1, -1)


@pytest.mark.parametrize("batch", [1, 2])
def test_ctrl_c_leaves_a_checkpoint_that_goes_on_exactly(
    batch: int,
    tiny_arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    assert_same_weights: Callable[[Path, Path], None],
) -> None:
    before = signal.getsignal(signal.SIGINT)
    straight = fit(tiny_arguments)
    original = build_trainer
    stop = StopAt(1, batch)
    monkeypatch.setattr(
        run, "build_trainer", lambda cfg, folder, callbacks: original(cfg, folder, [*callbacks, stop])
    )
    with pytest.raises(
        InterruptedRun, match=r"MODEL\.RESUME_TRAINING True MODEL\.PRETRAIN_PATH .*1_interrupted\.pth"
    ):
        fit(tiny_arguments)
    monkeypatch.undo()
    folder = straight.folder.with_name("exp1")
    assert read_weights(folder / "1_interrupted.pth").position == (1, batch + 1)  # type: ignore[union-attr]
    path = str(folder / "1_interrupted.pth")
    resumed = fit(tiny_arguments, "MODEL.RESUME_TRAINING", "True", "MODEL.PRETRAIN_PATH", path)
    assert resumed.folder == folder
    steps = [int(row["steps"]) for row in csv.DictReader((folder / "metrics.csv").open())]
    assert steps == [steps[0], steps[0] - batch - 1]  # the second row is of those after the interruption
    assert_same_weights(straight.folder / "1_last.pth", folder / "1_last.pth")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interruption_of_an_epoch_keeps_the_first(
    tiny_arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, path = build_trainer, ""
    for batch in (1, 3):
        stop = StopAt(0, batch)
        monkeypatch.setattr(
            run,
            "build_trainer",
            lambda cfg, folder, callbacks, stop=stop: original(cfg, folder, [*callbacks, stop]),
        )
        more = ("MODEL.RESUME_TRAINING", "True", "MODEL.PRETRAIN_PATH", path) if path else ()
        with pytest.raises(InterruptedRun) as caught:
            fit(tiny_arguments, *more)
        path = str(caught.value).rpartition(" ")[2]
    positions = {file.name: read_weights(file).position for file in Path(path).parent.glob("*.pth")}  # type: ignore[union-attr]
    assert positions == {"0_interrupted.pth": (0, 2), "0_interrupted_4.pth": (0, 4)}
    monkeypatch.undo()
    resumed = fit(tiny_arguments, "MODEL.RESUME_TRAINING", "True", "MODEL.PRETRAIN_PATH", path)
    assert resumed.folder == Path(path).parent


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_reaches_workers_and_all_and_is_survived(
    tiny_arguments: list[str], tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "train.py",
        *tiny_arguments,
        "DATALOADER.NUM_WORKERS",
        "1",
        "SOLVER.MAX_EPOCHS",
        "500",
    ]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        folder = tmp_path / "logs/tiny/osnet_x0_25/baseline/exp0"
        deadline = time.monotonic() + 120
        while not (folder / "0.pth").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error[-2000:]
    (path,) = folder.glob("*_interrupted.pth")
    assert str(path) in error
    assert "Traceback" not in error


@pytest.mark.parametrize("callback", [Checkpoints, EpochLog, Interruption, LastValidation])
def test_hooks_of_callbacks_are_lightnings(callback: type[Callback]) -> None:
    ours = {name for name in vars(callback) if name.startswith("on_")}
    assert ours <= set(dir(Callback))
