"""Indices by name: from embeddings to nearest neighbours.

=========  ==========================================================================================
``flat``   exact, and the vectors may stay in a memory map: up to some millions of images
``hnsw``   a graph of FAISS in memory, which holds the vectors once more: the fastest
``ivfpq``  codes of FAISS, D / 8 bytes each, refined by the vectors on disk: tens of millions
``milvus`` a local file or a server: for many readers, or galleries that outgrow one machine
=========  ==========================================================================================
"""

import numpy as np

from datasets.readers.market import UNKNOWN_ID
from inference.faiss_index import build_faiss
from inference.fingerprint import Fingerprint, fingerprint_of
from inference.flat_index import FlatIndex
from inference.milvus_index import Entities, MilvusIndex
from inference.milvus_server import Server
from inference.neighbours import Index, Neighbours, Vectors
from utils.errors import ReidError

__all__ = ["KINDS", "Index", "Neighbours", "build_index", "check_kind", "milvus_collection"]

KINDS = ("flat", "hnsw", "ivfpq", "milvus")


def build_index(
    vectors: Vectors,
    kind: str = "flat",
    *,
    normalize: bool = True,
    device: str | None = None,
    uri: str = "",
) -> Index:
    """Index vectors.

    Args:
        vectors: (N, D) floating point, torch or numpy.
        kind: one of :data:`KINDS`.
        normalize: cosine distance; False = squared euclidean distance of the vectors as they are.
        device: where ``flat`` computes; None = where the vectors are.
        uri: where ``milvus`` stores them: a file ending in ``.db``, or a server.

    Raises:
        ReidError: for an unknown kind, a URI missing or not used, vectors that cannot be searched, or a library
            that is not installed.
    """
    check_kind(kind, uri)
    if kind == "flat":
        return FlatIndex(vectors, normalize=normalize, device=device)
    if kind != "milvus":
        return build_faiss(vectors, kind, normalize=normalize)
    if not uri:
        raise ReidError("kind milvus needs a URI, got none; give a server's, or a file such as gallery.db")
    index = milvus_collection(fingerprint_of(vectors), uri, normalize=normalize)
    rows, unknown = np.arange(len(vectors)), np.full(len(vectors), UNKNOWN_ID)
    index.fill(vectors, Entities(rows.astype(str), unknown, unknown, rows))
    return index


def check_kind(kind: str, uri: str) -> None:
    """Refuse an unknown kind, and a URI that it does not use.

    Raises:
        ReidError: naming the kinds.
    """
    if kind not in KINDS:
        raise ReidError(f"kind of index must be one of {', '.join(KINDS)}, got {kind!r}; flat is exact")
    if uri and kind != "milvus":
        raise ReidError(f"a URI belongs to kind milvus, got {uri!r} with {kind}; leave it out, or choose milvus")


def milvus_collection(vectors: Fingerprint, uri: str, *, normalize: bool) -> MilvusIndex:
    """The collection of these vectors (and paths) and no others, which is made where it is absent.

    Raises:
        ReidError: see :class:`inference.milvus_index.MilvusIndex`.
    """
    name = f"reid_{'cosine' if normalize else 'l2'}_{vectors.digest[:16]}_{vectors.rows}"
    return MilvusIndex(Server(uri), name, vectors.dim, normalize=normalize)
