"""Where a run lives: logs/{dataset}/{backbone}/{method}/exp{i}, and the same tail for TensorBoard."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.checkpoint import epoch_of
from utils.files import keep_previous, write_text

BEST = "best.pth"
METRICS = "metrics.csv"  # a row for each epoch, which names it

_CHECKPOINT = re.compile(r"(\d+)(_last)?\.pth")
_REPORT = re.compile(r"report_(\d+)\.json")


@dataclass(frozen=True)
class RunFolder:
    """The folders of one run.

    Attributes:
        logs: checkpoints, config.yml, metrics.csv, reports.
        tensorboard: event files.
    """

    logs: Path
    tensorboard: Path


def new_run(logs_dir: Path, runs_dir: Path, tail: Path) -> RunFolder:
    """Create the next free ``exp{i}``; creating it is what reserves it against a run that starts now.

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
                return RunFolder(folder, _beside(folder, runs_dir / tail / folder.name))
        number += 1


def _beside(folder: Path, board: Path) -> Path:
    """Create the second folder of a run; where it cannot be, the first one goes too."""
    try:
        board.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder.rmdir()
        raise
    return board


def run_of(checkpoint: Path, runs_dir: Path, tail: Path) -> RunFolder | None:
    """The folders of the run that wrote ``checkpoint``, or None where the file was moved out of them."""
    logs = checkpoint.resolve().parent
    if logs.parts[-4:-1] != tail.parts or not re.fullmatch(r"exp\d+", logs.name):
        return None
    return RunFolder(logs, runs_dir / tail / logs.name)


def later_checkpoints(folder: Path, next_epoch: int) -> list[Path]:
    """Checkpoints in ``folder`` that resuming at ``next_epoch`` would write again."""
    return _numbered(folder, _CHECKPOINT, next_epoch)


def set_later_aside(folder: Path, next_epoch: int) -> Path | None:
    """Move what epochs after the resumption have left, best.pth among it, to ``earlier_1``, ...

    metrics.csv stays with the rows of the epochs before; the whole one is moved.

    Args:
        folder: of the run.
        next_epoch: at which it goes on.

    Returns:
        Where these files lie now, or None where there were none.
    """
    rows = read_metrics(folder / METRICS)
    kept = [row for row in rows if int(row["epoch"]) < next_epoch]
    names = [path.name for path in _numbered(folder, _REPORT, next_epoch)]
    if (best := folder / BEST).exists() and epoch_of(best) >= next_epoch:
        names.append(BEST)
    if len(kept) < len(rows):
        names.append(METRICS)
    aside = keep_previous(folder, names)
    if kept and METRICS in names:
        write_metrics(folder / METRICS, kept)
    return aside


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv, none where there is no such file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_metrics(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write metrics.csv; columns that only some rows have are empty in the others."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _numbered(folder: Path, pattern: re.Pattern[str], first: int) -> list[Path]:
    matches = [(pattern.fullmatch(path.name), path) for path in sorted(folder.iterdir())]
    return [path for match, path in matches if match and int(match[1]) >= first]
