"""Indices by name: from embeddings to nearest neighbors.

=========  ==========================================================================================
``flat``   exact, and the vectors may stay in a memory map: up to some millions of images
``hnsw``   a graph of FAISS in memory, which holds the vectors once more: the fastest
``ivfpq``  codes of FAISS, D / 8 bytes each, refined by the vectors on disk: tens of millions
``milvus`` a local file or a server: for many readers, or galleries that outgrow one machine
=========  ==========================================================================================
"""

import numpy as np
import torch

from datasets.readers.market import UNKNOWN_ID
from inference.choices import INDEX_KINDS
from inference.gallery.fingerprint import Fingerprint, fingerprint_of
from inference.indexes.base import Index, Vectors
from inference.indexes.faiss_index import build_faiss
from inference.indexes.flat import FlatIndex
from inference.indexes.milvus import MilvusIndex
from inference.indexes.milvus_records import Records
from inference.indexes.milvus_server import Server
from utils.errors import ReidError


def build_index(
    vectors: Vectors,
    kind: str = "flat",
    *,
    normalize: bool = True,
    device: torch.device | str | None = None,
    uri: str = "",
) -> Index:
    """Index vectors.

    Args:
        vectors: (N, D) floating point, torch or numpy.
        kind: one of :data:`inference.choices.INDEX_KINDS`.
        normalize: cosine distance; False = squared Euclidean distance of the vectors as they are.
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
    index.fill(vectors, Records(rows.astype(str), unknown, unknown, rows))
    return index


def check_kind(kind: str, uri: str) -> None:
    """Refuse an unknown kind, and a URI that it does not use.

    Raises:
        ReidError: naming the kinds.
    """
    if kind not in INDEX_KINDS:
        raise ReidError(f"kind of index must be one of {', '.join(INDEX_KINDS)}, got {kind!r}; flat is exact")
    if uri and kind != "milvus":
        raise ReidError(f"a URI belongs to kind milvus, got {uri!r} with {kind}; leave it out, or choose milvus")


def milvus_collection(vectors: Fingerprint, uri: str, *, normalize: bool, ending: str = "") -> MilvusIndex:
    """The collection of these vectors (and paths), which is made where it is absent; with an ``ending``, as a draft.

    Args:
        vectors: that it holds and, without an ``ending``, no others.
        uri: of a server, or a file.
        normalize: cosine distance; False = squared Euclidean distance.
        ending: of its name, for a collection of its own that begins with these vectors.

    Raises:
        ReidError: see :class:`inference.indexes.milvus.MilvusIndex`.
    """
    name = f"reid_{'cosine' if normalize else 'l2'}_{vectors.digest[:16]}_{vectors.rows}{ending}"
    draft = f"{name}_draft" if ending else ""
    return MilvusIndex(Server(uri), name, vectors.dim, normalize=normalize, draft=draft)
