"""What Ctrl-C leaves, and a run that diverges."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pytorch_lightning import Callback
from tqdm import tqdm

from engine.callbacks.epoch_log import read_metrics
from tests.engine.support import add_callback, assert_same_weights, checkpoint_at, resume
from tests.support import fit
from utils.errors import ReidError
from utils.signals import InterruptedRun

ROOT = Path(__file__).resolve().parents[2]


class StopAt(Callback):
    """Presses Ctrl-C during a step."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.at = (epoch, batch)

    def on_train_batch_start(self, trainer: object, module: object, batch: object, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == self.at:  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGINT)
            self.at = (-1, -1)


def interrupt_at(epoch: int, batch: int, arguments: list[str]) -> Path:
    """Train until Ctrl-C; the path is that of the checkpoint, as the message says it."""
    with pytest.MonkeyPatch.context() as patch:
        add_callback(patch, StopAt(epoch, batch))
        with pytest.raises(InterruptedRun, match=r"MODEL\.RESUME_TRAINING True MODEL\.PRETRAIN_PATH ") as stop:
            fit(arguments)
    return Path(str(stop.value).rpartition(" ")[2])


def process_state() -> tuple[object, ...]:
    """Who handles the signals, and how many progress bars are open above a new one."""
    with tqdm(total=1, file=io.StringIO()) as bar:
        return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), bar.pos


@pytest.mark.parametrize("batch", [1, 2])
def test_ctrl_c_leaves_a_checkpoint_that_goes_on_exactly(batch: int, tiny_arguments: list[str]) -> None:
    before = process_state()
    straight = fit(tiny_arguments)
    assert process_state() == before
    path = interrupt_at(1, batch, tiny_arguments)
    assert process_state() == before
    assert path == straight.folder.with_name("exp1") / "1_interrupted.pth"
    assert checkpoint_at(path).position == (1, batch + 1)
    assert fit(tiny_arguments, *resume(path)).folder == path.parent
    steps = [int(row["steps"]) for row in read_metrics(path.parent / "metrics.csv")]
    assert steps == [steps[0], steps[0] - batch - 1]  # the second row is of those after the interruption
    assert_same_weights(straight.folder / "1_last.pth", path.parent / "1_last.pth")


def test_a_run_with_cached_pixels_goes_on_exactly(tiny_arguments: list[str], tmp_path: Path) -> None:
    straight = fit(tiny_arguments)
    path = interrupt_at(1, 1, [*tiny_arguments, "DATASETS.CACHE_DIR", str(tmp_path / "cache")])
    (file,) = (tmp_path / "cache").iterdir()
    file.unlink()
    assert fit(tiny_arguments, *resume(path)).folder == path.parent
    assert file.exists()  # the checkpoint knows the folder
    assert_same_weights(straight.folder / "1_last.pth", path.parent / "1_last.pth")
    other = fit(tiny_arguments, *resume(path), "DATASETS.CACHE_DIR", str(tmp_path / "other")).folder
    assert (tmp_path / "other" / file.name).exists()  # it may change on the way
    assert_same_weights(straight.folder / "1_last.pth", other / "1_last.pth")


def test_a_second_interruption_of_an_epoch_keeps_the_first(tiny_arguments: list[str]) -> None:
    first = interrupt_at(0, 1, tiny_arguments)
    second = interrupt_at(0, 3, [*tiny_arguments, *resume(first)])
    positions = {path.name: checkpoint_at(path).position for path in first.parent.glob("*.pth")}
    assert positions == {"0_interrupted.pth": (0, 2), "0_interrupted_4.pth": (0, 4)}
    assert fit(tiny_arguments, *resume(second)).folder == first.parent


def test_a_diverged_run_says_so_below_its_progress_bar(tiny_arguments: list[str]) -> None:
    before = process_state()
    steps = ("SOLVER.BASE_LR", "1e30", "SOLVER.OPTIMIZER_NAME", "SGD", "SOLVER.WARMUP_EPOCHS", "0")
    with pytest.raises(ReidError, match=r"the loss of epoch 0 is (nan|inf).*lower SOLVER\.BASE_LR"):
        fit(tiny_arguments, *steps, "SOLVER.EVAL_PERIOD", "9")
    assert process_state() == before


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_reaches_workers_and_all_and_is_survived(
    tiny_arguments: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, "train.py", *tiny_arguments, "DATALOADER.NUM_WORKERS", "1", "SOLVER.MAX_EPOCHS", "500"]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, **pipes) as process:
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
