"""A gallery in Milvus, which clients may change."""

import secrets
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.readers.market import UNKNOWN_ID, labels_of
from inference.gallery.store import Gallery
from inference.indexes.milvus import MilvusIndex, Records
from inference.service.gallery import Match, NoSuchRowError, ServedGallery, known_cameras
from utils.files import written_aside

ADDED = "added"
"""The folder of a gallery that holds the images that clients have added."""
_FIRST, _LAST = 2**40, 2**53  # rows of added images: above those of any gallery, and exact in JavaScript


class LivingGallery(ServedGallery):
    """A gallery in Milvus that clients change; what they add lies as files in a folder of it.

    Args:
        gallery: what it was at first.
        index: of its images and those that were added; the rows are its positions.
        folder: for the files that are added.
    """

    kind = "milvus"
    changes = True

    def __init__(self, gallery: Gallery, index: MilvusIndex, folder: Path) -> None:
        self._first, self._index, self._folder = gallery, index, folder.absolute()
        self.num_first = len(gallery.embeddings)
        self._lock = threading.Lock()  # the client of Milvus need not bear many threads
        before = labels_of(np.array([path.name for path in sorted(self._folder.glob("*"))], dtype=np.str_))[1]
        self.cameras = known_cameras(np.concatenate([gallery.camera_ids, before]))

    def __len__(self) -> int:
        """Number of images."""
        with self._lock:
            return len(self._index)

    def image(self, row: int) -> Path:
        """See :meth:`ServedGallery.image`; who writes into Milvus cannot name another file."""
        path = Path(str(self._at(row)[1].paths[0]))
        paths = self._first.embeddings.paths
        if path.parent == self._folder or (row < len(paths) and str(path) == str(paths[row])):
            return path
        raise NoSuchRowError

    def vector(self, row: int) -> NDArray[np.float32]:
        """See :meth:`ServedGallery.vector`."""
        vector: NDArray[np.float32] = self._at(row)[0][0]
        return vector

    def _at(self, row: int) -> tuple[NDArray[np.float32], Records]:
        if not 0 <= row < _LAST:
            raise NoSuchRowError
        with self._lock:
            vectors, records = self._index.at([row])
        if not len(vectors):
            raise NoSuchRowError
        return vectors, records

    def nearest(
        self, vectors: NDArray[np.float32], k: int, cameras: tuple[int, ...], other_cameras: tuple[int, ...]
    ) -> list[list[Match]]:
        """See :meth:`ServedGallery.nearest`."""
        rules = [f"camera {word} {list(ids)}" for word, ids in (("in", cameras), ("not in", other_cameras)) if ids]
        with self._lock:
            matches = self._index.find(vectors, k, where=" and ".join(rules))
        columns = zip(*matches.records, matches.distances, strict=True)
        return [_matches(Records(*rows[:-1]), rows[-1]) for rows in columns]

    def records(self, rows: Sequence[int]) -> list[Match]:
        """See :meth:`ServedGallery.records`."""
        with self._lock:
            records = self._index.at(rows)[1]
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
            ReidError: if the index does not take them.
        """
        label = f"{person_id:04d}_c{camera_id}_" if UNKNOWN_ID not in (person_id, camera_id) else ""
        paths = [self._folder / f"{label}{secrets.token_hex(8)}{ending}" for _, ending in files]
        rows = np.array([_FIRST + secrets.randbelow(_LAST - _FIRST) for _ in files])
        people, cameras = np.full(len(files), person_id), np.full(len(files), camera_id)
        records = Records(np.array([str(path) for path in paths]), people, cameras, rows)
        try:
            for path, (content, _) in zip(paths, files, strict=True):
                with written_aside(path) as aside:
                    aside.write_bytes(content)
            with self._lock:
                self._index.upsert(vectors, records)
        except BaseException:
            for path in paths:
                path.unlink(missing_ok=True)
            raise
        self.cameras = known_cameras(np.array([*self.cameras, camera_id]))
        return _matches(records, np.zeros(len(paths)))

    def delete(self, rows: Sequence[int]) -> int:
        """Delete images, and the files of those that were added; how many there were.

        Raises:
            ReidError: if the index does not answer.
        """
        with self._lock:
            paths = [str(path) for path in self._index.at(rows)[1].paths]
            self._index.delete(paths)
        for path in map(Path, paths):
            if path.parent == self._folder:
                path.unlink(missing_ok=True)
        return len(paths)


def _matches(records: Records, distances: NDArray[np.floating]) -> list[Match]:
    """Rows of an answer of Milvus without the places that it could not fill."""
    columns = (records.positions, records.paths, records.person_ids, records.camera_ids, distances)
    rows = zip(*(np.asarray(column).tolist() for column in columns), strict=True)
    return [Match(*row) for row in rows if row[1]]
