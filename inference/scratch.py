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
    # Another process that finds the folder at its end may be faster to remove it, which is no error.
    with TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True) as name:
        place = Path(name)
        with only_process(place / f"{_LOCK}.new", wait=False):
            # The lock gets the name that others look for when it is held: they never find it free before.
            (place / f"{_LOCK}.new").rename(place / _LOCK)
            yield place


def _remove_unless_held(lock: Path) -> None:
    try:
        with only_process(lock, wait=False):
            shutil.rmtree(lock.parent, ignore_errors=True)
    except (ReidError, FileNotFoundError):  # in use, or removed meanwhile
        return
