"""The embeddings of many images in a file instead of memory, for as long as they are needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from inference.extract import Extractor
from inference.store import Embeddings
from utils.errors import ReidError


@contextmanager
def embedded(extractor: Extractor, paths: NDArray[np.str_], folder: Path) -> Iterator[Embeddings]:
    """Embed files; the vectors are a memory map that is removed at the end of the block.

    Args:
        extractor: the network.
        paths: (N,) of images; unreadable ones are named in the log and left out.
        folder: where the temporary file lies; created.

    Raises:
        ReidError: if none of the images can be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".embedded_", dir=folder) as place:
        shape = (len(paths), extractor.card.dim)
        vectors = open_memmap(Path(place) / "vectors.npy", mode="w+", dtype=np.float32, shape=shape)
        kept, end = [], 0
        for rows, part in extractor.stream(paths):
            vectors[end : end + len(rows)] = part
            kept.append(rows)
            end += len(rows)
        if not end:
            raise ReidError(f"none of the {len(paths)} images could be read; see the messages above")
        yield Embeddings(vectors[:end], paths[np.concatenate(kept)])
