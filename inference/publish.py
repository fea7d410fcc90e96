"""From the shares of a finished job to the three files of a gallery."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from inference.gallery_centroids import gallery_centroids
from inference.store import META, PATHS, UNKNOWN_ID, VECTORS, ModelCard, labels_of, meta_text
from inference.unfinished import ShareFiles
from utils.atomic import keep_previous, written_aside
from utils.errors import ReidError

logger = logging.getLogger(__name__)

_BLOCK_BYTES = 64 * 2**20  # copied at once


class Finished(NamedTuple):
    """A job whose shares are complete.

    Attributes:
        shares: in the order of the images.
        paths: (N,) of all images.
        model: what made the vectors.
        origin: see :func:`inference.store.meta_text`.
    """

    shares: Sequence[ShareFiles]
    paths: NDArray[np.str_]
    model: ModelCard
    origin: Mapping[str, Any]


def check_identities(paths: NDArray[np.str_]) -> None:
    """Centroids need to know who is who.

    Raises:
        ReidError: if a file name tells no identity.
    """
    unknown = np.flatnonzero(labels_of(paths)[0] == UNKNOWN_ID)
    if len(unknown):
        raise ReidError(
            f"MODEL.USE_CENTROIDS True needs the identity in each file name, like 0002_c1s1_000451_03.jpg, "
            f"but {len(unknown)} of {len(paths)} have none: {Path(paths[unknown[0]]).name}; rename or remove them"
        )


def publish(output: Path, job: Finished, *, centroids: bool) -> int:
    """Write the gallery; an earlier one is moved to ``earlier_1``, and stays in its place until then.

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
    paths = job.paths[places]
    # Left in reverse: meta.json comes last, and says that the others are there.
    with (
        written_aside(output / META) as meta_path,
        written_aside(output / PATHS) as paths_path,
        written_aside(output / VECTORS) as vectors_path,
    ):
        _join(vectors_path, job)
        if centroids:
            paths = _replace_by_centroids(vectors_path, paths)
        with paths_path.open("wb") as file:
            np.save(file, paths, allow_pickle=False)
        origin = {**job.origin, "images": len(places), "unreadable": len(job.paths) - len(places)}
        meta_path.write_text(meta_text(job.model, len(paths), centroids=centroids, origin=origin), encoding="utf-8")
        earlier = keep_previous(output, (META, VECTORS, PATHS))
    if earlier:
        logger.info("the gallery that was in %s is now in %s", output, earlier)
    return len(paths)


def _join(target: Path, job: Finished) -> None:
    """Copy the vectors there are to one file, some rows at a time."""
    parts = [share.done() for share in job.shares]
    total = sum(len(rows) for rows, _ in parts)
    joined = open_memmap(target, mode="w+", dtype=np.float32, shape=(total, job.model.dim))
    step, end = max(1, _BLOCK_BYTES // (4 * job.model.dim)), 0
    for rows, vectors in parts:
        for first in range(0, len(rows), step):
            block = vectors[rows[first : first + step]]
            joined[end : end + len(block)] = block
            end += len(block)
    joined.flush()


def _replace_by_centroids(path: Path, paths: NDArray[np.str_]) -> NDArray[np.str_]:
    """Means over each identity; returns the path of the first image of each."""
    vectors = open_memmap(path, mode="c")  # a private copy on write: torch wants it writable
    means = gallery_centroids(torch.from_numpy(vectors), torch.from_numpy(labels_of(paths)[0]))
    del vectors  # its file shrinks now
    with path.open("wb") as file:
        np.save(file, means.vectors.numpy(), allow_pickle=False)
    first: NDArray[np.str_] = paths[means.first_rows.numpy()]
    return first
