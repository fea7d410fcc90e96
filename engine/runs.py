"""The folder of a run, logs/{dataset}/{backbone}/{method}/exp{i}, and when a resumed run continues in it."""

import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_only
from yacs.config import CfgNode

from datasets.sample import Sample
from engine.callbacks.checkpoints import BEST
from engine.callbacks.epoch_log import METRICS_FILE, read_metrics, write_metrics
from engine.checkpoint import Checkpoint, RunCard, epoch_of
from engine.processes import num_processes
from utils.errors import ReidError
from utils.files import PART, keep_previous, only_process
from utils.log import log_file

logger = logging.getLogger(__name__)

LOG = "log.txt"
"""The messages of a run."""

_LOCK = ".lock"
_CHECKPOINT = re.compile(r"(\d+)(_last)?\.pth")
_NOT_IN_NAMES = re.compile("[:\ud800-\udfff]")  # what Windows does not allow, and bytes that are no UTF-8
_REPORT = re.compile(r"report_(\d+)\.json")


@dataclass(frozen=True)
class RunFolder:
    """The folders of one run.

    Attributes:
        logs: checkpoints, config.yml, metrics.csv, log.txt, reports.
        tensorboard: event files.
    """

    logs: Path
    tensorboard: Path


def digest(samples: Sequence[Sample]) -> str:
    """A hash of the names, identities and cameras of the training files, whatever their folder."""
    lines = (f"{sample.path.name} {sample.person_id} {sample.camera_id}\n" for sample in samples)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def check_resumption(checkpoint: Checkpoint, cfg: CfgNode, card: RunCard) -> None:
    """Refuse to resume a finished run, or with other data or another number of processes.

    Raises:
        ReidError: if the run cannot go on; the message names the difference.
    """
    epoch, batch = checkpoint.position
    if epoch >= cfg.SOLVER.MAX_EPOCHS:
        raise ReidError(
            f"{checkpoint.path} has finished epoch {epoch - 1}, the last of SOLVER.MAX_EPOCHS "
            f"{cfg.SOLVER.MAX_EPOCHS}; set it higher to train on"
        )
    if checkpoint.data not in ("", card.data):
        raise ReidError(
            f"the training images of {card.dataset} must be those of the resumed run, but files or identities "
            "differ; restore them, or set MODEL.RESUME_TRAINING False to start a new run from the weights"
        )
    if (processes := num_processes(cfg)) != checkpoint.world_size:
        if batch:
            raise ReidError(
                f"{checkpoint.path} stopped within an epoch of {checkpoint.world_size} processes: TRAINER.DEVICES x "
                f"TRAINER.NUM_NODES must be that number, got {processes}; set them so, or take another checkpoint"
            )
        logger.warning("resuming with %d processes instead of %d", processes, checkpoint.world_size)


@contextmanager
def run_folder(cfg: CfgNode, card: RunCard, checkpoint: Checkpoint | None) -> Iterator[RunFolder]:
    """The folder of the run: a new one, or that of the resumed run if nothing would be overwritten.

    No other process can go on with the run during the block, whose messages are in log.txt.

    Raises:
        ReidError: if another process is at work on the resumed run, or has damaged its files, or if TensorBoard could
            not write below RUNS_DIR.
    """
    _check_encoding(Path(cfg.RUNS_DIR))
    logs_dir, runs_dir, tail = Path(cfg.LOGS_DIR), Path(cfg.RUNS_DIR), _tail(cfg, card)
    if getattr(rank_zero_only, "rank", 0) != 0:  # only the first process writes
        yield RunFolder(logs_dir, runs_dir)
        return
    with ExitStack() as stack:
        folder = _resumed_run(cfg, checkpoint, tail, stack) if checkpoint else None
        if folder is None:
            folder = new_run(logs_dir, runs_dir, tail)
            stack.enter_context(only_process(folder.logs / _LOCK, wait=False))
        stack.enter_context(log_file(folder.logs / LOG))
        yield folder


def _check_encoding(runs_dir: Path) -> None:
    try:
        str(runs_dir.absolute()).encode()
    except UnicodeEncodeError as error:
        raise ReidError(
            "RUNS_DIR must be UTF-8 with all folders above it, because TensorBoard writes nowhere else, got "
            f"{runs_dir}; set PYTHONUTF8=1 in the environment if its name is UTF-8, or give another folder"
        ) from error


def _resumed_run(cfg: CfgNode, checkpoint: Checkpoint, tail: Path, stack: ExitStack) -> RunFolder | None:
    """The folder in which the run goes on, locked and without later results; None = in a new one."""
    folder, epoch = run_of(checkpoint.path, Path(cfg.RUNS_DIR), tail), checkpoint.position[0]
    if folder is None:
        reason = f"{checkpoint.path} lies outside its run"
    elif cfg.LOGS_DIR != checkpoint.config["LOGS_DIR"] and not folder.logs.is_relative_to(
        Path(cfg.LOGS_DIR).resolve()
    ):
        reason = f"LOGS_DIR {cfg.LOGS_DIR} is not that of the resumed run"
    elif later := later_checkpoints(folder.logs, epoch):
        reason = f"{later[0]} would be overwritten"
    else:
        stack.enter_context(only_process(folder.logs / _LOCK, wait=False))
        for part in folder.logs.glob(f".*{PART}"):  # of a process that was killed
            part.unlink()
        if aside := set_later_aside(folder.logs, epoch):
            logger.warning("the results of epoch %d and later are now in %s", epoch, aside)
        return folder
    logger.warning("a new folder begins: %s", reason)
    return None


def _tail(cfg: CfgNode, card: RunCard) -> Path:
    """{dataset}/{backbone}/{method} in names that every disk and TensorBoard take: ``timm:resnet18`` has a colon."""
    return Path(*(_NOT_IN_NAMES.sub("_", name) for name in (card.dataset, cfg.MODEL.NAME, card.method)))


def new_run(logs_dir: Path, runs_dir: Path, tail: Path) -> RunFolder:
    """Create the next free ``exp{i}``, which reserves it against a run that starts at the same time.

    Args:
        logs_dir: root of the logs.
        runs_dir: root of the TensorBoard files.
        tail: ``{dataset}/{backbone}/{method}``.
    """
    parent = logs_dir / tail
    parent.mkdir(parents=True, exist_ok=True)
    number = 0
    while True:
        folder = parent / f"exp{number}"
        if not (runs_dir / tail / folder.name).exists():
            try:
                folder.mkdir()
            except FileExistsError:
                pass
            else:
                return RunFolder(folder, _create_board(folder, runs_dir / tail / folder.name))
        number += 1


def _create_board(folder: Path, board: Path) -> Path:
    """Create the second folder of a run; remove the first one if that fails."""
    try:
        board.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder.rmdir()
        raise
    return board


def run_of(checkpoint: Path, runs_dir: Path, tail: Path) -> RunFolder | None:
    """The folders of the run that wrote ``checkpoint``, or None if the file was moved out of them."""
    logs = checkpoint.resolve().parent
    if logs.parts[-4:-1] != tail.parts or not re.fullmatch(r"exp\d+", logs.name):
        return None
    return RunFolder(logs, runs_dir / tail / logs.name)


def later_checkpoints(folder: Path, next_epoch: int) -> list[Path]:
    """Checkpoints in ``folder`` that a run which resumes at ``next_epoch`` would overwrite."""
    return _files_from(folder, _CHECKPOINT, next_epoch)


def set_later_aside(folder: Path, next_epoch: int) -> Path | None:
    """Move the results of epochs after the resumption, including best.pth, to ``earlier_1``, ...

    The whole metrics.csv moves, and a new one holds the rows of the epochs before.

    Args:
        folder: of the run.
        next_epoch: the epoch at which the run resumes.

    Returns:
        The new folder, or None if there are no such results.
    """
    rows = read_metrics(folder / METRICS_FILE)
    earlier_rows = [row for row in rows if int(row["epoch"]) < next_epoch]
    names = [path.name for path in _files_from(folder, _REPORT, next_epoch)]
    if (folder / BEST).exists() and not _is_best_before(folder / BEST, next_epoch):
        names.append(BEST)
    if len(earlier_rows) < len(rows):
        names.append(METRICS_FILE)
    aside = keep_previous(folder, names)
    if earlier_rows and METRICS_FILE in names:
        write_metrics(folder / METRICS_FILE, earlier_rows)
    return aside


def _is_best_before(best: Path, next_epoch: int) -> bool:
    try:
        return epoch_of(best) < next_epoch
    except ReidError as error:
        logger.warning("%s", error)
        return False


def _files_from(folder: Path, pattern: re.Pattern[str], first: int) -> list[Path]:
    matches = [(pattern.fullmatch(path.name), path) for path in sorted(folder.iterdir())]
    return [path for match, path in matches if match and int(match[1]) >= first]
