"""Atomic files, results of earlier runs, inter-process locks and temporary folders."""

import difflib
import glob
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from utils.errors import ReidError
from utils.text import printable

PART = ".part"
"""Ending of a file that is being written. Its name begins with a dot, so no reader takes it for an image."""


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; rename it to ``path`` if the block succeeds.

    The folder is created. An exception removes the temporary file and leaves ``path`` as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PART}")
    try:
        with file_named(path):
            yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def file_named(path: Path) -> Iterator[None]:
    """Name ``path`` in an error of the file system that names no file, as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8", errors="backslashreplace")  # of names that are no text


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def remove_parts(folder: Path, names: Iterable[str]) -> None:
    """Remove what killed processes left half-written of these files; call it before they are written again."""
    for name in names:
        for part in folder.glob(f".{glob.escape(name)}.*{PART}"):
            part.unlink(missing_ok=True)


def has_mark(folder: Path, name: str, mark: str, option: str) -> bool:
    """Whether a command with this mark made a folder, finished or interrupted; remove its half-written files.

    Args:
        folder: where the command writes; may be absent.
        name: of the file in the folder that holds the mark.
        mark: text that identifies the command.
        option: the command's option for the folder, for the message.

    Raises:
        ReidError: if the folder holds something else.
    """
    path = folder / name
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if text != mark and (text or folder.is_file() or (folder.is_dir() and any(folder.iterdir()))):
        raise ReidError(
            f"{folder} must be absent, empty, or begun by the same command, but it holds "
            f"{_difference(text, mark) or 'something else'}; remove it or give another {option}"
        )
    for part in folder.rglob(f".*{PART}"):
        part.unlink(missing_ok=True)
    return bool(text)


def _difference(before: str, now: str) -> str:
    """What a mark says that another one does not: of JSON objects the values that differ."""
    try:
        one, other = json.loads(before), json.loads(now)
        keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
        text = ", ".join(f"{key} {one.get(key)} (now {other.get(key)})" for key in keys)
    except (ValueError, AttributeError, TypeError, RecursionError):
        text = before
    return printable(" ".join(text.split()))[:200]


def keep_previous(folder: Path, names: Sequence[str]) -> Path | None:
    """Move results of an earlier run together to ``earlier_1`` or the next free number.

    Args:
        folder: where the results lie.
        names: files and folders in it that a new run is going to write.

    Returns:
        The new folder, or None if there are no earlier results.
    """
    existing = [folder / name for name in names if (folder / name).exists()]
    if not existing:
        return None
    number = 1
    while (earlier := folder / f"earlier_{number}").exists():
        number += 1
    earlier.mkdir()
    for path in existing:
        path.rename(earlier / path.name)
    return earlier


def absent_files(paths: Iterable[str]) -> list[str]:
    """The paths that do not exist, in the order of ``paths``.

    One directory listing answers for all files of a folder: a ``stat`` for each costs a round trip on a network
    disk.
    """
    listings: dict[str, frozenset[str]] = {}
    absent = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in listings:
            listings[folder] = _listing(folder)
        if name not in listings[folder]:
            absent.append(path)
    return absent


def nearest_path(path: Path) -> Path | None:
    """An existing path that differs from ``path`` in names that are similar; None if there is none.

    Args:
        path: of a file or folder that does not exist.
    """
    above = next((folder for folder in path.parents if folder.is_dir()), None)
    return None if above is None else _descend(above, path.relative_to(above).parts)


def _descend(folder: Path, names: Sequence[str]) -> Path | None:
    """The first existing path below ``folder`` whose parts are similar to ``names``."""
    if not names:
        return folder
    entries = sorted(_listing(str(folder)))
    close = [names[0]] if names[0] in entries else difflib.get_close_matches(names[0], entries, n=3, cutoff=0.5)
    inner = (_descend(folder / name, names[1:]) for name in close)
    return next((path for path in inner if path is not None), None)


def folders_of(folder: str) -> list[str]:
    """The names of the folders in a folder, and of links to folders; a link to itself is none."""
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if _is_folder(entry)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _listing(folder: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208 (names only)
    except (OSError, ValueError):  # the second: a name that holds a zero byte
        return frozenset()


@contextmanager
def only_process(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold an inter-process lock, which is released when its holder dies, however it dies.

    Args:
        path: the lock file; its folder must exist.
        wait: for another process that holds it.

    Raises:
        ReidError: if another process holds it and ``wait`` is False.
    """
    lock = FileLock(path)
    try:
        lock.acquire(blocking=wait)
    except Timeout as error:
        raise ReidError(f"another process is at work on {path.parent / path.stem}; wait for it or stop it") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder in ``parent`` that exists until the end of the block.

    Folders that killed processes left behind are removed first; the lock beside a folder shows whether it is in use.

    Args:
        parent: created where it is absent.
        prefix: of the folder's name; no other file may begin with it.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for lock in parent.glob(f"{prefix}*.lock"):
        with suppress(ReidError), only_process(lock, wait=False):  # an error means that the folder is in use
            _remove(lock)
    lock = parent / f"{prefix}{uuid.uuid4().hex}.lock"
    with only_process(lock, wait=True):
        try:
            folder = lock.with_suffix("")
            folder.mkdir()
            yield folder
        finally:
            _remove(lock)


def _remove(lock: Path) -> None:
    """Remove a scratch folder and then its lock: a folder without a lock would never be removed."""
    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
    with suppress(OSError):  # Windows cannot remove an open file; the next process will
        lock.unlink()
