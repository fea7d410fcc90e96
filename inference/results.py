"""The neighbors of queries as files: tables to read, results.npz to compute with, and the queries' embeddings."""

import csv
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from datasets.readers.market import UNKNOWN_ID, labels_of
from inference.cameras import Cameras
from inference.gallery.store import CSV, NPZ, QUERY_PATHS, QUERY_VECTORS, RESULTS, Embeddings, Gallery
from inference.indexes.base import NOT_FOUND, Index, SearchResult
from inference.npy_writer import save_rows, write_npy
from utils.blocks import row_blocks
from utils.files import keep_previous, remove_parts, scratch_folder, written_aside
from utils.text import as_rows, printable

logger = logging.getLogger(__name__)

NO_MATCH = "no match"
PREDICTIONS = "result.csv"

_HEADER = ("query", "rank", "path", "identity", "camera", "distance")
_PREDICTIONS_HEADER = ("query filename", "predicted class", "predicted path", "distance")
_FEW_MATCHES = 10  # on the console
_BYTES_PER_LINE = 1500  # of results.csv while it is put together


@dataclass(frozen=True)
class SearchFilter:
    """Which neighbors of a query count.

    Attributes:
        topk: gallery images per query; 0 = all.
        max_distance: weaker matches are dropped; None = none is.
        cameras: the cameras of the images that count; None = all do, and names of files tell the cameras.
    """

    topk: int = 100
    max_distance: float | None = None
    cameras: Cameras | None = None

    def search(self, index: Index, queries: Embeddings) -> SearchResult:
        """The neighbors of Q queries in an index.

        Raises:
            ReidError: as :meth:`inference.indexes.base.Index.search`.
        """
        if self.cameras is None:
            return self.drop_weak(index.search(queries.vectors, self.topk))
        return self.drop_weak(self.cameras.search(index, queries, self.topk))

    def drop_weak(self, result: SearchResult) -> SearchResult:
        """``result`` without the matches that are too weak: their index becomes :data:`NOT_FOUND`."""
        if self.max_distance is None:
            return result
        weak = result.distances > self.max_distance
        return SearchResult(
            np.where(weak, np.float32(np.inf), result.distances), np.where(weak, NOT_FOUND, result.indices)
        )


def write_results(
    folder: Path, queries: Embeddings, gallery: Gallery, index: Index, search_filter: SearchFilter
) -> int:
    """Search and write, some queries at a time.

    ``results.csv`` has a line per query and gallery image, an identity or camera that the name does not tell left
    empty, and one line with the path "no match" for a query without a match. ``results.npz`` holds ``indices``
    (Q, k) int64, -1 where there is no match, and ``distances`` (Q, k) float32, infinite there. Results of an earlier
    search are moved to ``earlier_1``, ..., pictures included; a gallery in the same folder stays.

    Args:
        folder: OUTPUT_DIR.
        queries: Q images.
        gallery: what ``index`` was made from.
        index: to search in.
        search_filter: which neighbors count.

    Returns:
        The number of queries without a match.

    Raises:
        ReidError: if the search cannot be done.
    """
    k = index.resolve_k(search_filter.topk)
    num_without = 0
    remove_parts(folder, RESULTS)
    with (
        written_aside(folder / NPZ) as npz,
        written_aside(folder / QUERY_PATHS) as query_paths,
        written_aside(folder / QUERY_VECTORS) as query_vectors,
        written_aside(folder / CSV) as table,
        scratch_folder(folder, ".results_") as scratch,  # all of a large gallery for each query exceed the memory
    ):
        numbers = {name: scratch / f"{name}.npy" for name in SearchResult._fields}
        with (
            open_table(table) as file,
            write_npy(numbers["distances"]) as distances,
            write_npy(numbers["indices"]) as indices,
        ):
            csv.writer(file).writerow(_HEADER)
            for rows in row_blocks(len(queries), k * _BYTES_PER_LINE):
                block = Embeddings(queries.vectors[rows], queries.paths[rows])
                result = search_filter.search(index, block)
                distances.append(result.distances)
                indices.append(result.indices)
                _write_lines(file, block.paths, gallery, result, search_filter.cameras)
                num_without += int((result.indices == NOT_FOUND).all(axis=1).sum())
        with npz.open("wb") as archive:
            np.savez(archive, **{name: np.load(path, mmap_mode="r") for name, path in numbers.items()})
        for path, array in ((query_vectors, queries.vectors), (query_paths, queries.paths)):
            with path.open("wb") as copy:
                save_rows(copy, array)
        if earlier := keep_previous(folder, RESULTS):
            logger.info("the earlier results are now in %s", earlier)
    return num_without


def best_matches(queries: Embeddings, gallery: Gallery, index: Index, search_filter: SearchFilter) -> str:
    """The nearest gallery images of a few queries, a table for each, as lines for the console.

    Identities and cameras have a column where one is known. Paths come last and are never cut, so that they can be
    copied.
    """
    few = replace(search_filter, topk=min(search_filter.topk, _FEW_MATCHES) or _FEW_MATCHES)
    lines = []
    for query, distances, items in zip(queries.paths, *few.search(index, queries), strict=True):
        items = items[items != NOT_FOUND]
        lines += ["", query]
        lines += _table(gallery, items, distances[: len(items)], few.cameras) if len(items) else [f"  {NO_MATCH}"]
    return "\n".join([*map(printable, lines[1:]), ""])


def write_predictions(folder: Path, queries: Embeddings, gallery: Embeddings, result: SearchResult) -> None:
    """Write ``result.csv``, a line per query; an earlier file is moved to ``earlier_1``, ...

    Args:
        folder: OUTPUT_DIR.
        queries: Q images.
        gallery: N images.
        result: (Q, 1) neighbors.
    """
    items = result.indices[:, 0]
    empty = items == NOT_FOUND
    names = [Path(name).name for name in gallery.paths[items].tolist()]
    columns = (
        [Path(name).name for name in queries.paths.tolist()],
        np.where(empty, NO_MATCH, label_texts(labels_of(gallery.paths[items])[0])).tolist(),
        np.where(empty, "", names).tolist(),
        np.where(empty, "", np.char.mod("%.9f", result.distances[:, 0])).tolist(),
    )
    remove_parts(folder, (PREDICTIONS,))
    with written_aside(folder / PREDICTIONS) as aside:
        with open_table(aside) as file:
            csv.writer(file).writerows(as_rows([_PREDICTIONS_HEADER, *zip(*columns, strict=True)]))
        if earlier := keep_previous(folder, (PREDICTIONS,)):
            logger.info("the earlier results are now in %s", earlier)


def label_texts(labels: NDArray[np.int64]) -> NDArray[np.str_]:
    """Identities or cameras as text; empty where they are not known."""
    return np.where(labels == UNKNOWN_ID, "", labels.astype(str))


def open_table(path: Path) -> TextIO:
    """A CSV file to write, whose names have the bytes that the file system has, UTF-8 or not."""
    return path.open("w", newline="", encoding="utf-8", errors="surrogateescape")


def _write_lines(
    file: TextIO, paths: NDArray[np.str_], gallery: Gallery, result: SearchResult, cameras: Cameras | None
) -> None:
    has_line = result.indices != NOT_FOUND
    has_line[:, 0] = True  # a query without a match has a line too
    rows, places = np.nonzero(has_line)
    items = result.indices[rows, places]
    empty = items == NOT_FOUND
    images, people, of_cameras = _texts(gallery, items, cameras)
    columns = (
        paths[rows],
        np.where(empty, "", (places + 1).astype(str)),
        np.where(empty, NO_MATCH, images),
        np.where(empty, "", people),
        np.where(empty, "", of_cameras),
        np.where(empty, "", np.char.mod("%.9f", result.distances[rows, places])),
    )
    csv.writer(file).writerows(as_rows(zip(*(column.tolist() for column in columns), strict=True)))


def _table(
    gallery: Gallery, items: NDArray[np.int64], distances: NDArray[np.float32], cameras: Cameras | None
) -> list[str]:
    """The lines of a table of M gallery images, the nearest first."""
    images, people, of_cameras = _texts(gallery, items, cameras)
    ranks = [str(rank) for rank in range(1, len(items) + 1)]
    columns = [["rank", *ranks], ["distance", *np.char.mod("%.4f", distances).tolist()]]
    for name, texts in (("identity", people.tolist()), ("camera", of_cameras.tolist())):
        columns += [[name, *texts]] if any(texts) else []
    padded = [[text.rjust(max(map(len, column))) for text in column] for column in columns]
    return [f"  {'  '.join(row)}" for row in zip(*padded, ["image", *images.tolist()], strict=True)]


def _texts(
    gallery: Gallery, items: NDArray[np.int64], cameras: Cameras | None
) -> tuple[NDArray[np.str_], NDArray[np.str_], NDArray[np.str_]]:
    """Path, identity and camera of M gallery images; empty where an identity or a camera is not known."""
    images = gallery.embeddings.paths[items]
    of_cameras = cameras.texts(images) if cameras else label_texts(gallery.camera_ids[items])
    return images, label_texts(gallery.person_ids[items]), of_cameras
