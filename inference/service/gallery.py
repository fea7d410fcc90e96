"""What the service searches in, and a gallery that stays as it is."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.readers.market import UNKNOWN_ID
from inference.cameras import search_cameras
from inference.gallery.store import Gallery
from inference.indexes.base import NOT_FOUND, Index


class NoSuchRowError(Exception):
    """A row that the gallery does not have."""


class Query(NamedTuple):
    """What is searched.

    Attributes:
        vector: (D,) float32.
        k: matches at most.
        max_distance: of a match; None = any.
        cameras: whose images count; empty = all.
        other_cameras: whose images do not count.
        without: row of an image that is no match, because it is the query; None = none.
    """

    vector: NDArray[np.float32]
    k: int
    max_distance: float | None = None
    cameras: tuple[int, ...] = ()
    other_cameras: tuple[int, ...] = ()
    without: int | None = None


class Match(NamedTuple):
    """An image of the gallery; identity and camera are :data:`UNKNOWN_ID` where they are not known."""

    row: int
    path: str
    person_id: int
    camera_id: int
    distance: float


class ServedGallery(ABC):
    """Images with a number each, their row, by which clients name them.

    Attributes:
        kind: of its index.
        changes: whether images can be added and deleted.
        cameras: of its images, ascending.
        num_first: rows of the gallery as it was at first: 0, 1, ...
        last_number: of its images, when they were last counted.
    """

    kind: str
    num_first: int
    last_number: int
    changes = False
    cameras: list[int]

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def image(self, row: int) -> Path:
        """The file of an image, which is one of the gallery and never another.

        Raises:
            NoSuchRowError: if there is no such image.
        """

    @abstractmethod
    def vector(self, row: int) -> NDArray[np.float32]:
        """(D,) the embedding of an image.

        Raises:
            NoSuchRowError: if there is no such image.
        """

    @abstractmethod
    def nearest(
        self, vectors: NDArray[np.float32], k: int, cameras: tuple[int, ...], other_cameras: tuple[int, ...]
    ) -> list[list[Match]]:
        """The ``k`` nearest images of each of (Q, D) vectors; cameras as in :class:`Query`."""

    @abstractmethod
    def records(self, rows: Sequence[int]) -> list[Match]:
        """Those of these images that there are, their distance 0."""

    def examples(self, number: int) -> list[Match]:
        """Some images of the gallery as it was at first, others each time."""
        number = min(number, self.num_first)
        rows = np.random.default_rng().choice(self.num_first, number, replace=False)  # a few of millions: no list
        return self.records(rows.tolist())

    def search(self, queries: Sequence[Query]) -> list[list[Match]]:
        """The matches of each query, nearest first; queries of the same cameras are one search.

        Raises:
            ReidError: if the index cannot answer.
        """
        groups: defaultdict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = defaultdict(list)
        for place, query in enumerate(queries):
            groups[query.cameras, query.other_cameras].append(place)
        results: list[list[Match]] = [[] for _ in queries]
        for cameras, places in groups.items():
            few = [queries[place] for place in places]
            k = max(query.k + (query.without is not None) for query in few)
            vectors = np.stack([query.vector for query in few])
            for place, query, matches in zip(places, few, self.nearest(vectors, k, *cameras), strict=True):
                results[place] = _those_meant(matches, query)
        return results


def _those_meant(matches: list[Match], query: Query) -> list[Match]:
    limit = np.inf if query.max_distance is None else query.max_distance
    return [match for match in matches if match.row != query.without and match.distance <= limit][: query.k]


class FixedGallery(ServedGallery):
    """A gallery of files with any index; a row is the place among its embeddings.

    Args:
        gallery: on disk.
        index: of its vectors.
        kind: of the index.
    """

    def __init__(self, gallery: Gallery, index: Index, kind: str) -> None:
        self._gallery, self._index, self.kind = gallery, index, kind
        self.cameras = known_cameras(gallery.camera_ids)
        self.num_first = self.last_number = len(gallery.embeddings)

    def __len__(self) -> int:
        """Number of images."""
        return self.num_first

    def image(self, row: int) -> Path:
        """See :meth:`ServedGallery.image`."""
        return Path(str(self._gallery.embeddings.paths[self._checked(row)]))

    def vector(self, row: int) -> NDArray[np.float32]:
        """See :meth:`ServedGallery.vector`."""
        return np.array(self._gallery.embeddings.vectors[self._checked(row)])

    def _checked(self, row: int) -> int:
        if not 0 <= row < len(self):
            raise NoSuchRowError
        return row

    def nearest(
        self, vectors: NDArray[np.float32], k: int, cameras: tuple[int, ...], other_cameras: tuple[int, ...]
    ) -> list[list[Match]]:
        """See :meth:`ServedGallery.nearest`."""
        if cameras or other_cameras:
            ids = self._gallery.camera_ids
            allowed = ~np.isin(ids, other_cameras) & (np.isin(ids, cameras) if cameras else True)
            own = np.full(len(vectors), UNKNOWN_ID)
            result = search_cameras(self._index, vectors, k, ids, own, allowed)
        else:
            result = self._index.search(vectors, k)
        return [
            [self._match(row, distance) for row, distance in zip(*pair, strict=True) if row != NOT_FOUND]
            for pair in zip(result.indices.tolist(), result.distances.tolist(), strict=True)
        ]

    def records(self, rows: Sequence[int]) -> list[Match]:
        """See :meth:`ServedGallery.records`."""
        return [self._match(row) for row in rows]

    def _match(self, row: int, distance: float = 0.0) -> Match:
        gallery = self._gallery
        ids = int(gallery.person_ids[row]), int(gallery.camera_ids[row])
        return Match(row, str(gallery.embeddings.paths[row]), *ids, distance)


def known_cameras(cameras: NDArray[np.int64]) -> list[int]:
    """Those that are known, each once, ascending."""
    return [camera for camera in np.unique(cameras).tolist() if camera != UNKNOWN_ID]
