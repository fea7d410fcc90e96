"""Searches that leave out the gallery images of a query's own camera."""

import os

import numpy as np
from numpy.typing import NDArray

from datasets.readers.market import UNKNOWN_ID, Names, labels_of
from inference.indexes.base import NOT_FOUND, Index, SearchResult, Vectors
from utils.blocks import row_blocks

_BYTES_PER_NAME = 4096  # of the memory budget, while a path is read
_BYTES_PER_NEIGHBOR = 64  # of a search, with its masks and its order


class Cameras:
    """The cameras of a gallery, and those of queries in the same numbers.

    Args:
        source: one of :data:`inference.choices.CAMERAS`: the file's ``name`` in the pattern of Market-1501, or the
            ``folder`` that holds the file.
        gallery: (N,) paths.

    Attributes:
        gallery: (N,) int64; negative where none is known.
    """

    def __init__(self, source: str, gallery: Names) -> None:
        self._by_folder = source == "folder"
        self._numbers: dict[str, int] = {}
        self.gallery = self._numbers_of(gallery)
        self._known = {*np.unique(self.gallery).tolist()} - {UNKNOWN_ID}

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

    def _numbers_of(self, paths: Names) -> NDArray[np.int64]:
        if not self._by_folder:
            return labels_of(paths)[1]
        numbers = np.empty(len(paths), np.int64)
        for rows in row_blocks(len(paths), _BYTES_PER_NAME):
            folders = map(_folder, map(str, paths[rows]))
            numbers[rows] = [self._numbers.setdefault(folder, len(self._numbers)) for folder in folders]
        return numbers


def search_other_cameras(
    index: Index, queries: Vectors, k: int, gallery_cameras: NDArray[np.int64], query_cameras: NDArray[np.int64]
) -> SearchResult:
    """The ``k`` nearest items of each query among those of other cameras.

    The search asks for more neighbors until ``k`` of other cameras are among them, so it works for every kind of
    index and is as exact as the index.

    Args:
        index: N items.
        queries: (Q, D) floating point.
        k: neighbors per query; 0 = all.
        gallery_cameras: (N,).
        query_cameras: (Q,); negative = nothing is left out.

    Raises:
        ReidError: as :meth:`inference.indexes.base.Index.search`.
    """
    k = index.resolve_k(k)
    shape = (len(query_cameras), k)
    result = SearchResult(np.full(shape, np.inf, np.float32), np.full(shape, NOT_FOUND, np.int64))
    cameras, counts = np.unique(gallery_cameras, return_counts=True)
    own = np.array([counts[cameras == camera].sum() if camera >= 0 else 0 for camera in query_cameras.tolist()])
    enough = np.minimum(k, len(index) - own)
    remaining, width = np.arange(len(query_cameras)), min(2 * k, len(index))
    while len(remaining):
        short = [np.empty(0, np.int64)]
        for part in row_blocks(len(remaining), width * _BYTES_PER_NEIGHBOR):
            rows = remaining[part]
            distances, items = index.search(queries[rows], width)
            camera = query_cameras[rows, None]
            keep = (items != NOT_FOUND) & ((gallery_cameras[items] != camera) | (camera < 0))
            order = np.argsort(~keep, axis=1, kind="stable")[:, :k]
            result.distances[rows] = np.take_along_axis(np.where(keep, distances, np.inf), order, axis=1)
            result.indices[rows] = np.take_along_axis(np.where(keep, items, NOT_FOUND), order, axis=1)
            short.append(rows[keep.sum(axis=1) < enough[rows]])
        remaining = np.concatenate(short) if width < len(index) else short[0]
        width = min(2 * width, len(index))
    return result


def _folder(path: str) -> str:
    return os.path.basename(os.path.dirname(path))  # noqa: PTH119, PTH120 (a Path per image is slow)
