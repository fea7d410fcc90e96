"""The embeddings of many images in a file instead of memory, for as long as they are needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from inference.extract import Extractor
from inference.image_paths import ImagePaths, write_paths
from inference.store import Embeddings
from utils.errors import ReidError
from utils.files import scratch_folder


@contextmanager
def embedded(extractor: Extractor, paths: ImagePaths, folder: Path, *, strict: bool) -> Iterator[Embeddings]:
    """Embed files; vectors and paths are memory maps that are removed at the end of the block.

    Args:
        extractor: the network.
        paths: of N images; unreadable ones are named in the log and left out.
        folder: where the temporary files lie; created.
        strict: an unreadable image is an error.

    Raises:
        ReidError: if none of the images can be read, or one cannot under ``strict``.
    """
    with scratch_folder(folder, ".embedded_") as place:
        shape = (len(paths), extractor.card.dim)
        vectors = open_memmap(place / "vectors.npy", mode="w+", dtype=np.float32, shape=shape)
        kept, end = [], 0
        for rows, part in extractor.stream(paths, strict=strict):
            vectors[end : end + len(rows)] = part
            kept.append(rows)
            end += len(rows)
        if not end:
            raise ReidError(f"none of the {len(paths)} images could be read; see the messages above")
        yield Embeddings(vectors[:end], write_paths(place / "paths.npy", paths, np.concatenate(kept)))
