"""Files that are either whole or absent: written aside, then renamed."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PART = ".part"  # ends the name of a file that is being written, which a dot begins: no reader takes it for an image


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a temporary path in the folder of ``path``; rename it to ``path`` if the block succeeds.

    The folder is created. An exception removes the temporary file and leaves ``path`` as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PART}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def keep_previous(folder: Path, names: Sequence[str]) -> Path | None:
    """Move results of an earlier run out of the way, together, to ``earlier_1`` or the next free number.

    Args:
        folder: where they lie.
        names: files and folders in it that a new run is going to write.

    Returns:
        Where they lie now, or None where there were none.
    """
    existing = [folder / name for name in names if (folder / name).exists()]
    if not existing:
        return None
    number = 1
    while (kept := folder / f"earlier_{number}").exists():
        number += 1
    kept.mkdir()
    for path in existing:
        path.rename(kept / path.name)
    return kept
