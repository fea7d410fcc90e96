"""What a search found, as files: results.csv to read, results.npz to compute with, and the queries' embeddings."""

import csv
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from datasets.readers.market import UNKNOWN_ID
from inference.neighbours import NOT_FOUND, Index, Neighbours, neighbours_asked
from inference.store import Embeddings, Gallery
from utils.blocks import row_blocks
from utils.errors import ReidError
from utils.files import keep_previous, scratch_folder, written_aside

logger = logging.getLogger(__name__)

CSV, NPZ, QUERY_VECTORS, QUERY_PATHS = "results.csv", "results.npz", "query_embeddings.npy", "query_paths.npy"
PICTURES = "ranked_lists"
RESULTS = (CSV, NPZ, QUERY_VECTORS, QUERY_PATHS, PICTURES)
NO_MATCH = "no match"

_HEADER = ("query", "rank", "path", "identity", "camera", "distance")
_BYTES_PER_LINE = 1500  # of results.csv while it is put together


@dataclass(frozen=True)
class Wanted:
    """How much of what is found is kept.

    Attributes:
        topk: gallery images per query; 0 = all.
        max_distance: weaker matches are dropped; None = none is.

    Raises:
        ReidError: if a number is negative.
    """

    topk: int = 100
    max_distance: float | None = None

    def __post_init__(self) -> None:
        neighbours_asked(self.topk, 1)
        if self.max_distance is not None and not self.max_distance >= 0:
            raise ReidError(
                f"max_distance must be 0 or more, got {self.max_distance}; take the threshold that test.py reports"
            )

    def of(self, found: Neighbours) -> Neighbours:
        """``found`` without the matches that are too weak: their index becomes :data:`NOT_FOUND`."""
        if self.max_distance is None:
            return found
        weak = found.distances > self.max_distance
        return Neighbours(
            np.where(weak, np.float32(np.inf), found.distances), np.where(weak, NOT_FOUND, found.indices)
        )


def write_results(
    folder: Path,
    queries: Embeddings,
    gallery: Gallery,
    index: Index,
    wanted: Wanted,
) -> int:
    """Search and write, some queries at a time.

    ``results.csv`` has a line per query and gallery image, an identity or camera that the name does not tell left
    empty, and one line with the path "no match" for a query that keeps none. ``results.npz`` holds ``indices``
    (Q, k) int64, -1 where nothing was kept, and ``distances`` (Q, k) float32, infinite there. Results of an earlier
    search are moved to ``earlier_1``, ..., pictures included; a gallery in the same folder stays.

    Args:
        folder: OUTPUT_DIR.
        queries: Q images.
        gallery: what ``index`` was made from.
        index: to search in.
        wanted: how much is kept.

    Returns:
        The number of queries without a match.

    Raises:
        ReidError: if the search cannot be done.
    """
    k = neighbours_asked(wanted.topk, len(gallery.embeddings))
    without = 0
    with (
        written_aside(folder / NPZ) as npz,
        written_aside(folder / QUERY_PATHS) as query_paths,
        written_aside(folder / QUERY_VECTORS) as query_vectors,
        written_aside(folder / CSV) as table,
    ):
        with _number_files(folder, (len(queries), k)) as kept, open_table(table) as file:
            csv.writer(file).writerow(_HEADER)
            for rows in row_blocks(len(queries), k * _BYTES_PER_LINE):
                found = wanted.of(index.search(queries.vectors[rows], k))
                kept.distances[rows], kept.indices[rows] = found
                _write_lines(file, queries.paths[rows], gallery, found)
                without += int((found.indices == NOT_FOUND).all(axis=1).sum())
            with npz.open("wb") as archive:
                np.savez(archive, indices=kept.indices, distances=kept.distances)
        _save(query_vectors, queries.vectors)
        _save(query_paths, queries.paths)
        if earlier := keep_previous(folder, RESULTS):
            logger.info("the earlier results are now in %s", earlier)
    return without


def shown(number: NDArray[np.int64]) -> NDArray[np.str_]:
    """Identities or cameras as text; empty where they are not known."""
    return np.where(number == UNKNOWN_ID, "", number.astype(str))


def open_table(path: Path) -> TextIO:
    """A CSV file to write, whose names have the bytes that the file system has, UTF-8 or not."""
    return path.open("w", newline="", encoding="utf-8", errors="surrogateescape")


@contextmanager
def _number_files(folder: Path, shape: tuple[int, int]) -> Iterator[Neighbours]:
    """Arrays in temporary files: with all of a large gallery per query they may be larger than memory."""
    with scratch_folder(folder, ".results_") as place:
        distances = open_memmap(place / "distances.npy", mode="w+", dtype=np.float32, shape=shape)
        indices = open_memmap(place / "indices.npy", mode="w+", dtype=np.int64, shape=shape)
        yield Neighbours(distances, indices)


def _write_lines(file: TextIO, paths: NDArray[np.str_], gallery: Gallery, found: Neighbours) -> None:
    told = found.indices != NOT_FOUND
    told[:, 0] = True  # a query without a match has a line too
    rows, places = np.nonzero(told)
    items = found.indices[rows, places]
    empty = items == NOT_FOUND
    columns = (
        paths[rows],
        np.where(empty, "", (places + 1).astype(str)),
        np.where(empty, NO_MATCH, gallery.embeddings.paths[items]),
        np.where(empty, "", shown(gallery.person_ids[items])),
        np.where(empty, "", shown(gallery.camera_ids[items])),
        np.where(empty, "", np.char.mod("%.9f", found.distances[rows, places])),
    )
    csv.writer(file).writerows(zip(*(column.tolist() for column in columns), strict=True))


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
