"""A gallery in Milvus, which clients may change."""

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.readers.market import UNKNOWN_ID
from inference.gallery.store import Gallery
from inference.indexes.milvus import MilvusIndex
from inference.indexes.milvus_records import Records
from inference.indexes.milvus_server import ServerAwayError
from inference.service.added_files import AddedFiles
from inference.service.gallery import Match, NoSuchRowError, ServedGallery, known_cameras
from utils.files import written_aside

_FIRST, _LAST = 2**40, 2**53  # rows of added images: above those of any gallery, and exact in JavaScript
_SECONDS = 5.0  # that a server may take for an answer
_PAUSE = 1.0  # seconds in which nobody asks a server that has not answered


class LivingGallery(ServedGallery):
    """A gallery in Milvus that clients change; what they add lies as files in a folder of it.

    Args:
        gallery: what it was at first.
        index: of its images and those that were added; the rows are its positions.
        folder: for the files that are added.

    Raises:
        ReidError: if the index does not answer.
    """

    kind = "milvus"
    changes = True

    def __init__(self, gallery: Gallery, index: MilvusIndex, folder: Path) -> None:
        self._first, self._index, self._files = gallery, index, AddedFiles(folder)
        self.num_first = len(gallery.embeddings)
        self._lock = threading.Lock()  # the client of Milvus need not bear many threads
        self._away, self._away_until = "", 0.0
        if self._files.notes():
            with self._files.only_change(self._delete):
                pass
        known = [*np.unique(gallery.camera_ids).tolist(), UNKNOWN_ID]
        self.cameras = known_cameras(np.array(index.cameras(known)))
        self.last_number = len(index)
        index.hurry(_SECONDS)  # clients wait

    @contextmanager
    def _turn(self) -> Iterator[MilvusIndex]:
        """The index for one thread at a time.

        Those that wait while the server is away must not find that out one after the other.
        """
        with self._lock:
            if time.monotonic() < self._away_until:
                raise ServerAwayError(self._away)
            try:
                yield self._index
            except ServerAwayError as error:
                self._away, self._away_until = str(error), time.monotonic() + _PAUSE
                raise

    def __len__(self) -> int:
        """Number of images."""
        with self._turn() as index:
            self.last_number = len(index)
        return self.last_number

    def image(self, row: int) -> Path:
        """See :meth:`ServedGallery.image`; who writes into Milvus cannot name another file."""
        path = str(self._at(row)[1].paths[0])
        paths = self._first.embeddings.paths
        if path in self._files or (row < len(paths) and path == str(paths[row])):
            return Path(path)
        raise NoSuchRowError

    def vector(self, row: int) -> NDArray[np.float32]:
        """See :meth:`ServedGallery.vector`."""
        vector: NDArray[np.float32] = self._at(row)[0][0]
        return vector

    def _at(self, row: int) -> tuple[NDArray[np.float32], Records]:
        if not 0 <= row < _LAST:
            raise NoSuchRowError
        with self._turn() as index:
            vectors, records = index.at([row])
        if not len(vectors):
            raise NoSuchRowError
        return vectors, records

    def nearest(
        self, vectors: NDArray[np.float32], k: int, cameras: tuple[int, ...], other_cameras: tuple[int, ...]
    ) -> list[list[Match]]:
        """See :meth:`ServedGallery.nearest`."""
        rules = [f"camera {word} {list(ids)}" for word, ids in (("in", cameras), ("not in", other_cameras)) if ids]
        with self._turn() as index:
            matches = index.find(vectors, k, where=" and ".join(rules))
        columns = zip(*matches.records, matches.distances, strict=True)
        return [_matches(Records(*rows[:-1]), rows[-1]) for rows in columns]

    def records(self, rows: Sequence[int]) -> list[Match]:
        """See :meth:`ServedGallery.records`."""
        with self._turn() as index:
            records = index.at(rows)[1]
        return _matches(records, np.zeros(len(records.paths)))

    def add(
        self, vectors: NDArray[np.float32], files: Sequence[tuple[bytes, str]], person_id: int, camera_id: int
    ) -> list[Match]:
        """Add images of one person and one camera; all of them, or none.

        Args:
            vectors: (N, D).
            files: N contents with the endings of their files.
            person_id: of all; :data:`UNKNOWN_ID` if it is not known.
            camera_id: of all; :data:`UNKNOWN_ID` if it is not known.

        Returns:
            The new images, their distance 0.

        Raises:
            ReidError: if the index does not take them. Where it has taken them but does not say so, they are found
                until it answers again and the next change, or the next start, removes them.
        """
        paths = self._files.new_paths([ending for _, ending in files], person_id, camera_id)
        rows = np.array([_FIRST + secrets.randbelow(_LAST - _FIRST) for _ in files])
        people, cameras = np.full(len(files), person_id), np.full(len(files), camera_id)
        records = Records(np.array([str(path) for path in paths]), people, cameras, rows)
        with self._files.only_change(self._delete):
            try:
                with self._files.noted(paths):
                    for path, (content, _) in zip(paths, files, strict=True):
                        with written_aside(path) as aside:
                            aside.write_bytes(content)
                    with self._turn() as index:
                        index.upsert(vectors, records)
                        self.cameras = known_cameras(np.array([*self.cameras, camera_id]))
            except BaseException:
                with suppress(ServerAwayError):
                    self._files.tidy(self._delete)
                raise
        return _matches(records, np.zeros(len(paths)))

    def delete(self, rows: Sequence[int]) -> int:
        """Delete images, and the files of those that were added; how many there were.

        Raises:
            ReidError: if the index does not answer. Images that were added are deleted nevertheless when it does.
        """
        with self._files.only_change(self._delete):
            with self._turn() as index:
                paths = [str(path) for path in index.at(rows)[1].paths]
            files = [Path(path) for path in paths if path in self._files]
            with self._files.noted(files):
                self._delete(paths)
                for file in files:
                    file.unlink(missing_ok=True)
        return len(paths)

    def _delete(self, paths: Sequence[str]) -> None:
        with self._turn() as index:
            index.delete(paths)


def _matches(records: Records, distances: NDArray[np.floating]) -> list[Match]:
    """Rows of an answer of Milvus without the places that it could not fill."""
    columns = (records.positions, records.paths, records.person_ids, records.camera_ids, distances)
    rows = zip(*(np.asarray(column).tolist() for column in columns), strict=True)
    return [Match(*row) for row in rows if row[1]]
