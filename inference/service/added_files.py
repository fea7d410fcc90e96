"""The files of images that clients add, which come and go together with their records, whatever happens between."""

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from datasets.readers.market import UNKNOWN_ID
from utils.files import only_process, remove_parts, write_text

_LOCK, _NOTE = ".changes.lock", ".unfinished_"  # the second: the beginning of the name of a note
_OURS = re.compile(r"(\d{4,}_c\d+_)?[0-9a-f]{16}\.[a-z]{3,4}")  # no other file is ever removed


class AddedFiles:
    """A folder of images under names of our own.

    An image is a file and a record of the index, which cannot change in one moment. So a note lies in the folder
    while some are added or deleted; it names the files that must not stay. Where the process is killed or the index
    does not answer, the note stays, and :meth:`tidy` removes these files and their records later.

    Args:
        folder: made with the first change.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    def __contains__(self, path: str) -> bool:
        """Whether a file is one of this folder."""
        return Path(path).parent == self._folder

    def new_paths(self, endings: Sequence[str], person_id: int, camera_id: int) -> list[Path]:
        """Where new images will lie; their names hold identity and camera where both are known."""
        label = f"{person_id:04d}_c{camera_id}_" if UNKNOWN_ID not in (person_id, camera_id) else ""
        return [self._folder / f"{label}{secrets.token_hex(8)}{ending}" for ending in endings]

    @contextmanager
    def only_change(self, delete: Callable[[Sequence[str]], None]) -> Iterator[None]:
        """Wait until no other thread or process changes the folder, tidy up, and keep the others out.

        Args:
            delete: as of :meth:`tidy`.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with only_process(self._folder / _LOCK, wait=True):
            self.tidy(delete)
            yield

    @contextmanager
    def noted(self, paths: Sequence[Path]) -> Iterator[None]:
        """Note that these files must not stay, until the block ends without an error."""
        note = self._folder / f"{_NOTE}{secrets.token_hex(8)}"
        write_text(note, "".join(f"{path.name}\n" for path in paths))
        yield
        note.unlink()

    def tidy(self, delete: Callable[[Sequence[str]], None]) -> None:
        """Remove what interrupted changes have left; for who keeps the others out.

        Args:
            delete: removes the records of some paths; unknown ones do not matter.

        Raises:
            ReidError: if ``delete`` does; the notes stay then.
        """
        for note in self.notes():
            lines = note.read_text(encoding="utf-8", errors="replace").splitlines()
            paths = [self._folder / name for name in lines if _OURS.fullmatch(name)]
            delete([str(path) for path in paths])
            for path in paths:
                path.unlink(missing_ok=True)
            remove_parts(self._folder, [path.name for path in paths])
            note.unlink()

    def notes(self) -> list[Path]:
        """The notes of changes that are at work, or were interrupted."""
        return list(self._folder.glob(f"{_NOTE}*"))
