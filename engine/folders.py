"""Where a run lives: logs/{dataset}/{backbone}/{method}/exp{i}, and the same tail for TensorBoard."""

import re
from dataclasses import dataclass
from pathlib import Path

_CHECKPOINT = re.compile(r"(\d+)(_last|_interrupted)?\.pth")


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
                return RunFolder(folder, runs_dir / tail / folder.name)
        number += 1


def run_of(checkpoint: Path, runs_dir: Path) -> RunFolder:
    """The folders of the run that wrote ``checkpoint``."""
    logs = checkpoint.resolve().parent
    return RunFolder(logs, runs_dir.joinpath(*logs.parts[-4:]))


def later_checkpoints(folder: Path, epoch: int) -> list[Path]:
    """Checkpoints in ``folder`` of epochs after ``epoch``: what resuming there would overwrite."""
    numbered = [(_CHECKPOINT.fullmatch(path.name), path) for path in sorted(folder.glob("*.pth"))]
    return [path for match, path in numbered if match and int(match[1]) > epoch]
