"""Searches among the gallery images of some cameras: those that are named, or all but the query's own."""

import logging
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datasets.readers.market import UNKNOWN_ID, Names, labels_of
from inference.gallery.store import Embeddings
from inference.indexes.base import NOT_FOUND, Index, SearchResult, Vectors
from utils.blocks import row_blocks
from utils.errors import ReidError, did_you_mean

logger = logging.getLogger(__name__)

_BYTES_PER_NAME = 4096  # of the memory budget, while a path is read
_BYTES_PER_NEIGHBOR = 64  # of a search, with its masks and its order
_LISTED = 10  # cameras in a message


class Cameras:
    """The cameras of a gallery, those of queries in the same numbers, and which of them a search is among.

    Args:
        source: one of :data:`inference.choices.CAMERAS`: the file's ``name`` in the pattern of Market-1501, or the
            ``folder`` that holds the file.
        gallery: (N,) paths.
        others: a query's own camera is left out.
        only: the cameras that count, as people call them: numbers of names, or folders. Empty = all.

    Attributes:
        others: see above.
        gallery: (N,) int64; negative where none is known.
        allowed: (N,) bool, the images of the cameras ``only``; None = all.

    Raises:
        ReidError: if the gallery has no image of a camera of ``only``.
    """

    def __init__(self, source: str, gallery: Names, *, others: bool = False, only: Sequence[str] = ()) -> None:
        self._by_folder, self.others = source == "folder", others
        self._numbers: dict[str, int] = {}
        self.gallery = self._numbers_of(gallery)
        self._known = {*np.unique(self.gallery).tolist()} - {UNKNOWN_ID}
        self.allowed = np.isin(self.gallery, [self._number(name) for name in only]) if only else None

    def search(self, index: Index, queries: Embeddings, k: int) -> SearchResult:
        """The ``k`` nearest images of each query among those of the cameras that count.

        Args:
            index: of the gallery.
            queries: Q images.
            k: neighbors per query; 0 = all.

        Raises:
            ReidError: as :meth:`inference.indexes.base.Index.search`.
        """
        own = self.of_queries(queries.paths) if self.others else np.full(len(queries), UNKNOWN_ID)
        if self.allowed is None and (own < 0).all():
            return index.search(queries.vectors, k)
        return search_cameras(index, queries.vectors, k, self.gallery, own, self.allowed)

    def of_queries(self, paths: Names) -> NDArray[np.int64]:
        """(Q,) int64 in the numbers of the gallery; negative where a camera is unknown or not in the gallery."""
        numbers = self._numbers_of(paths)
        return np.where(np.isin(numbers, list(self._known)), numbers, UNKNOWN_ID)

    def texts(self, paths: Names) -> NDArray[np.str_]:
        """(N,) the cameras as people call them; empty where none is known."""
        if self._by_folder:
            return np.array([_folder(path) for path in map(str, paths[:])], dtype=np.str_)
        numbers = labels_of(paths)[1]
        return np.where(numbers == UNKNOWN_ID, "", numbers.astype(str))

    def _number(self, name: str) -> int:
        """The number of a camera by what people call it."""
        try:
            number = self._numbers.get(name, UNKNOWN_ID) if self._by_folder else int(name)
        except ValueError:
            number = UNKNOWN_ID
        if number not in self._known:
            names = sorted(self._numbers) if self._by_folder else list(map(str, sorted(self._known)))
            more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
            kinds = "folders" if self._by_folder else "numbers in the names of files"
            raise ReidError(
                f"--camera must be a camera of the gallery ({kinds}: {', '.join(names[:_LISTED]) or 'none'}{more}), "
                f"got {name!r}{did_you_mean(name, names)}{'' if self._by_folder else '; see --camera_from_folder'}"
            )
        return number

    def _numbers_of(self, paths: Names) -> NDArray[np.int64]:
        if not self._by_folder:
            return labels_of(paths)[1]
        numbers = np.empty(len(paths), np.int64)
        for rows in row_blocks(len(paths), _BYTES_PER_NAME):
            folders = map(_folder, map(str, paths[rows]))
            numbers[rows] = [self._numbers.setdefault(folder, len(self._numbers)) for folder in folders]
        return numbers


def search_cameras(
    index: Index,
    queries: Vectors,
    k: int,
    gallery_cameras: NDArray[np.int64],
    query_cameras: NDArray[np.int64],
    allowed: NDArray[np.bool_] | None = None,
) -> SearchResult:
    """The ``k`` nearest items of each query among the allowed ones of other cameras.

    The search asks for more neighbors until ``k`` that count are among them, so it works for every kind of index and
    is as exact as the index. An index that bounds the neighbors of a query may give fewer, which the log says.

    Args:
        index: N items.
        queries: (Q, D) floating point.
        k: neighbors per query; 0 = all.
        gallery_cameras: (N,).
        query_cameras: (Q,); negative = nothing is left out.
        allowed: (N,) the items that count; None = all.

    Raises:
        ReidError: as :meth:`inference.indexes.base.Index.search`.
    """
    k = index.resolve_k(k)
    shape = (len(query_cameras), k)
    result = SearchResult(np.full(shape, np.inf, np.float32), np.full(shape, NOT_FOUND, np.int64))
    cameras, counts = np.unique(gallery_cameras if allowed is None else gallery_cameras[allowed], return_counts=True)
    own = np.array([counts[cameras == camera].sum() if camera >= 0 else 0 for camera in query_cameras.tolist()])
    enough = np.minimum(k, counts.sum() - own)
    remaining = np.flatnonzero(enough)  # a query without any image that counts is not searched for
    width = _widest(index, k, 2 * k * len(index) // max(1, counts.sum()))
    while len(remaining):
        short = [np.empty(0, np.int64)]
        for part in row_blocks(len(remaining), width * _BYTES_PER_NEIGHBOR):
            rows = remaining[part]
            distances, items = index.search(queries[rows], width)
            camera = query_cameras[rows, None]
            keep = (items != NOT_FOUND) & ((gallery_cameras[items] != camera) | (camera < 0))
            if allowed is not None:
                keep &= allowed[items]
            order = np.argsort(~keep, axis=1, kind="stable")[:, :k]
            result.distances[rows] = np.take_along_axis(np.where(keep, distances, np.inf), order, axis=1)
            result.indices[rows] = np.take_along_axis(np.where(keep, items, NOT_FOUND), order, axis=1)
            short.append(rows[keep.sum(axis=1) < enough[rows]])
        remaining, narrower = np.concatenate(short), width
        width = _widest(index, width, 2 * width)
        if width == narrower:
            break
    if len(remaining) and width < len(index):
        message = "%d queries have fewer than %d matches of these cameras among the nearest %d, the most that this "
        logger.warning(message + "index gives; --index flat has no such bound", len(remaining), k, width)
    return result


def _widest(index: Index, least: int, most: int) -> int:
    """The most neighbors, ``least`` to ``most``, that an index gives to a query."""
    most = max(least, min(most, len(index)))
    while most > least and not _gives(index, most):
        most = (least + most) // 2
    return most


def _gives(index: Index, k: int) -> bool:
    try:
        index.resolve_k(k)
    except ReidError:
        return False
    return True


def _folder(path: str) -> str:
    return os.path.basename(os.path.dirname(path))  # noqa: PTH119, PTH120 (a Path per image is slow)
