"""Temporary files beside the results, which a killed process does not leave for ever."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from inference.process_lock import only_process
from utils.errors import ReidError

_LOCK = "lock"


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A folder in ``parent`` until the end of the block; those of processes that were killed go now.

    Args:
        parent: created where it is absent.
        prefix: of the folder's name, which no other file has.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for lock in parent.glob(f"{prefix}*/{_LOCK}"):
        _remove_unless_held(lock)
    with TemporaryDirectory(prefix=prefix, dir=parent) as place, only_process(Path(place, _LOCK), wait=False):
        yield Path(place)


def _remove_unless_held(lock: Path) -> None:
    try:
        with only_process(lock, wait=False):
            shutil.rmtree(lock.parent, ignore_errors=True)
    except (ReidError, FileNotFoundError):  # in use, or removed meanwhile
        return
