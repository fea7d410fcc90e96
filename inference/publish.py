"""From the shares of a finished job to the three files of a gallery."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from datasets.readers.market import UNKNOWN_ID, labels_of
from inference.fingerprint import Fingerprint, Fingerprinting, fingerprint_of
from inference.gallery_centroids import gallery_centroids
from inference.image_paths import ImagePaths, write_paths
from inference.results import RESULTS
from inference.store import META, PATHS, VECTORS, ModelCard, meta_text
from inference.stored_index import index_files
from inference.unfinished import FOLDER, ShareFiles
from utils.errors import ReidError
from utils.files import keep_previous, written_aside

logger = logging.getLogger(__name__)

_BLOCK_BYTES = 64 * 2**20  # copied at once


class Finished(NamedTuple):
    """A job whose shares are complete.

    Attributes:
        shares: in the order of the images.
        paths: of all N images.
        model: what made the vectors.
        origin: see :func:`inference.store.meta_text`.
    """

    shares: Sequence[ShareFiles]
    paths: ImagePaths
    model: ModelCard
    origin: Mapping[str, Any]


def check_identities(paths: ImagePaths) -> None:
    """Centroids need to know who is who.

    Raises:
        ReidError: if a file name tells no identity.
    """
    unknown = np.flatnonzero(labels_of(paths)[0] == UNKNOWN_ID)
    if len(unknown):
        first = paths[int(unknown[0])]
        raise ReidError(
            f"MODEL.USE_CENTROIDS True needs the identity in each file name, like 0002_c1s1_000451_03.jpg, "
            f"but {len(unknown)} of {len(paths)} have none: {Path(first).name}; rename or remove them"
        )


def publish(output: Path, job: Finished, *, centroids: bool) -> int:
    """Write the gallery; an earlier one is moved to ``earlier_1``, and stays in its place until then.

    So are its indices and results, which do not belong to the new one. The files are written within the folder of
    unfinished work: of a process that is killed here nothing is left outside it.

    Args:
        output: OUTPUT_DIR.
        job: what was computed.
        centroids: one mean vector per identity instead of one per image.

    Returns:
        Rows of the gallery.

    Raises:
        ReidError: if no image could be read.
    """
    kept, start = [], 0
    for rows, vectors in (share.done() for share in job.shares):
        kept.append(rows + start)
        start += len(vectors)
    places = np.concatenate(kept)
    if not len(places):
        raise ReidError(f"none of the {len(job.paths)} images could be read; see the messages above")
    folder = output / FOLDER
    taken = _join(folder / VECTORS, job)
    paths = write_paths(folder / PATHS, job.paths, places)
    fingerprint = _replace_by_centroids(folder, paths) if centroids else taken.finish(paths)
    origin = {**job.origin, "images": len(places), "unreadable": len(job.paths) - len(places)}
    text = meta_text(job.model, fingerprint, centroids=centroids, origin=origin)
    (folder / META).write_text(text, encoding="utf-8")
    if earlier := keep_previous(output, list(_of_earlier_gallery(output))):
        logger.info("the gallery that was in %s is now in %s", output, earlier)
    for name in (VECTORS, PATHS, META):  # the last one says that the others are there
        (folder / name).replace(output / name)
    return fingerprint.rows


def _of_earlier_gallery(output: Path) -> Iterator[str]:
    gallery = (META, VECTORS, PATHS)
    if any((output / name).exists() for name in gallery):
        yield from (*gallery, *index_files(output), *RESULTS)


def _join(target: Path, job: Finished) -> Fingerprinting:
    """Copy the vectors there are to one file, some rows at a time."""
    parts = [share.done() for share in job.shares]
    total = sum(len(rows) for rows, _ in parts)
    joined = open_memmap(target, mode="w+", dtype=np.float32, shape=(total, job.model.dim))
    step, end, taken = max(1, _BLOCK_BYTES // (4 * job.model.dim)), 0, Fingerprinting()
    for rows, vectors in parts:
        for first in range(0, len(rows), step):
            block = vectors[rows[first : first + step]]
            joined[end : end + len(block)] = block
            taken.add(block)
            end += len(block)
    joined.flush()
    return taken


def _replace_by_centroids(folder: Path, paths: NDArray[np.str_]) -> Fingerprint:
    """Means over each identity, each with the path of its first image."""
    vectors = open_memmap(folder / VECTORS, mode="c")  # a private copy on write: torch wants it writable
    means = gallery_centroids(torch.from_numpy(vectors), torch.from_numpy(labels_of(paths)[0]))
    first: NDArray[np.str_] = np.array(paths[means.first_rows.numpy()])
    for name, array in ((VECTORS, means.vectors.numpy()), (PATHS, first)):
        with written_aside(folder / name) as aside, aside.open("wb") as file:  # aside: the old file is still mapped
            np.save(file, array, allow_pickle=False)
    return fingerprint_of(means.vectors, first)
