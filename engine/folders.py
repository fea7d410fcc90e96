"""Where a run lives: logs/{dataset}/{backbone}/{method}/exp{i}, and the same tail for TensorBoard."""

import re
from dataclasses import dataclass
from pathlib import Path

_CHECKPOINT = re.compile(r"(\d+)(_last)?\.pth")


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


def run_of(checkpoint: Path, runs_dir: Path, tail: Path) -> RunFolder | None:
    """The folders of the run that wrote ``checkpoint``, or None where the file was moved out of them."""
    logs = checkpoint.resolve().parent
    if logs.parts[-4:-1] != tail.parts or not re.fullmatch(r"exp\d+", logs.name):
        return None
    return RunFolder(logs, runs_dir / tail / logs.name)


def later_checkpoints(folder: Path, next_epoch: int) -> list[Path]:
    """Checkpoints in ``folder`` that resuming at ``next_epoch`` would write again."""
    numbered = [(_CHECKPOINT.fullmatch(path.name), path) for path in sorted(folder.glob("*.pth"))]
    return [path for match, path in numbered if match and int(match[1]) >= next_epoch]
