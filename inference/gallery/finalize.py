"""From the chunks of a finished job to the three files of a gallery."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.gallery.centroids import centroid_embeddings
from inference.gallery.chunks import EmbeddingJob
from inference.gallery.fingerprint import Fingerprint, VectorHasher, fingerprint_of
from inference.gallery.store import META, PATHS, VECTORS, Embeddings, ModelCard, gallery_files, meta_text
from inference.gallery.tracks import track_means
from inference.image_paths import ImagePaths, write_paths
from inference.npy_writer import write_npy
from utils.errors import ReidError
from utils.files import keep_previous, write_text

logger = logging.getLogger(__name__)


def finalize(
    job: EmbeddingJob,
    paths: ImagePaths,
    model: ModelCard,
    origin: Mapping[str, Any],
    *,
    centroids: bool,
    tracks: bool = False,
) -> Path | None:
    """Write the gallery into OUTPUT_DIR and remove the job, unless chunks are missing: another process computes them.

    An earlier gallery is moved to ``earlier_1`` and stays in its place until then; so are its indices and results,
    which do not belong to the new one. The files are written inside the folder of unfinished work, so a process that
    is killed here leaves nothing outside it.

    Args:
        job: what was computed.
        paths: of all N images.
        model: what made the vectors.
        origin: see :func:`inference.gallery.store.meta_text`.
        centroids: one mean vector per identity instead of one per image.
        tracks: one mean vector per track instead; ``origin`` says so.

    Returns:
        The folder of the gallery, or None while chunks are missing.

    Raises:
        ReidError: if no image could be read.
    """
    output = job.folder.parent
    with job.lock():
        if not job.exists():  # another process was last too, and faster
            job.remove()
            return output
        if missing := job.num_missing():
            logger.info("%d chunks of images are still to be embedded by other processes", missing)
            return None
        replace = _replace_by_centroids if centroids else _replace_by_tracks if tracks else None
        fingerprint = _write_files(job, paths, model, origin, replace)
        if any((output / name).exists() for name in (META, VECTORS, PATHS)):
            earlier = keep_previous(output, gallery_files(output))
            logger.info("the gallery that was in %s is now in %s", output, earlier)
        for name in (VECTORS, PATHS, META):  # the last one says that the others are there
            (job.folder / name).replace(output / name)
        job.remove()
    rows = "identities" if centroids else "tracks" if tracks else "images"
    logger.info("%d %s of %d components in %s", fingerprint.rows, rows, model.dim, output)
    return output


def _write_files(
    job: EmbeddingJob,
    paths: ImagePaths,
    model: ModelCard,
    origin: Mapping[str, Any],
    replace: Callable[[Path, NDArray[np.str_]], Fingerprint] | None,
) -> Fingerprint:
    rows, hasher = [np.empty(0, np.int64)], VectorHasher()
    with write_npy(job.folder / VECTORS) as file:
        for chunk_rows, vectors in job.vectors():
            file.append(vectors)
            hasher.add(vectors)
            rows.append(chunk_rows)
    if not len(file):
        raise ReidError(f"none of the {len(paths)} images could be read; see the messages above")
    names = write_paths(job.folder / PATHS, paths, np.concatenate(rows))
    fingerprint = replace(job.folder, names) if replace else hasher.finish(names)
    counts = {"images": len(file), "unreadable": len(paths) - len(file)}
    text = meta_text(model, fingerprint, centroids=replace is _replace_by_centroids, origin={**origin, **counts})
    write_text(job.folder / META, text)
    return fingerprint


def _replace_by_centroids(folder: Path, paths: NDArray[np.str_]) -> Fingerprint:
    """Means over each identity, each with the path of its first image."""
    people = centroid_embeddings(Embeddings(np.load(folder / VECTORS, mmap_mode="r"), paths))
    for name, array in ((VECTORS, people.vectors), (PATHS, people.paths)):
        with write_npy(folder / name) as file:  # the old file is still mapped
            file.append(array)
    return fingerprint_of(people.vectors, people.paths)


def _replace_by_tracks(folder: Path, paths: NDArray[np.str_]) -> Fingerprint:
    """Means over each track, each with the path of the crop that is most like it."""
    images, hasher = Embeddings(np.load(folder / VECTORS, mmap_mode="r"), paths), VectorHasher()
    with write_npy(folder / VECTORS) as vectors, write_npy(folder / PATHS) as names:  # the old files are still mapped
        for tracks in track_means(images):
            vectors.append(tracks.vectors)
            hasher.add(tracks.vectors)
            names.append(np.array(paths[tracks.rows]))
    return hasher.finish(np.load(folder / PATHS, mmap_mode="r", allow_pickle=False))
