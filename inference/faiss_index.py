"""Approximate search with FAISS: a graph (``hnsw``), or compressed vectors in lists (``ivfpq``).

Malkov and Yashunin, Efficient and robust approximate nearest neighbor search using HNSW graphs, TPAMI 2020.
Jégou et al., Product quantization for nearest neighbor search, TPAMI 2011.

``hnsw`` holds the vectors in memory. ``ivfpq`` holds D / 8 bytes for each, and takes exact distances of its best
candidates from the vectors themselves, which may be a memory map: for tens of millions.
"""

import logging
import math
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from inference.neighbours import NOT_FOUND, Neighbours, Vectors, checked_vectors, neighbours_asked
from utils import blocks
from utils.errors import ReidError, one_line
from utils.files import written_aside
from utils.precision import full_precision

_CODES, _TRAINING_PER_CODE = 256, 39  # of product quantisation (8 bits), and what FAISS asks for at least
_SMALLEST_IVFPQ = _CODES * _TRAINING_PER_CODE
_MORE_CANDIDATES = 100  # than 2 k: of ivfpq, whose codes know distances roughly
_ALWAYS_COMPARED = 4096  # candidates, whatever the budget
_BLOCK = 16384  # rows added at once
_SEED = 0


class _Measure(NamedTuple):
    """How vectors are compared: FAISS always gets squared euclidean distances, 2 - 2 cos of normalised ones."""

    normalize: bool

    def prepared(self, rows: Tensor) -> Tensor:
        rows = rows.to("cpu", torch.float32)
        if not bool(torch.isfinite(rows).all()):
            raise ReidError("vectors must be finite, got NaN or infinity; look for a diverged training")
        return torch.nn.functional.normalize(rows, eps=1e-12) if self.normalize else rows

    def distances(self, squared: np.ndarray) -> np.ndarray:
        return (squared / 2 if self.normalize else squared).clip(0.0)


class FaissIndex:
    """A FAISS index over vectors, as :func:`build_faiss` and :func:`load_faiss` give it.

    ``ivfpq`` refines its candidates by the vectors; ``hnsw`` holds them itself.
    """

    def __init__(self, content: Any, vectors: Tensor, measure: _Measure) -> None:  # noqa: ANN401
        """Take ``content``, a filled index of the FAISS library, over ``vectors`` (N, D)."""
        self._refines = hasattr(content, "pq")
        self._content = content
        self._vectors = vectors
        self._measure = measure

    @property
    def parameters(self) -> dict[str, int]:
        """With which it was built."""
        if self._refines:
            return {"lists": self._content.nlist, "bytes": self._content.pq.M}
        hnsw = self._content.hnsw
        return {"links": hnsw.nb_neighbors(1), "construction": hnsw.efConstruction}

    def __len__(self) -> int:
        """Number of vectors."""
        return len(self._vectors)

    def asked(self, k: int) -> int:
        """See :meth:`inference.neighbours.Index.asked`."""
        number = neighbours_asked(k, len(self))
        most = max(_ALWAYS_COMPARED, blocks.MEMORY_BUDGET // self._bytes_per_candidate)
        if self._refines and self._candidates(number) > most:
            raise ReidError(
                f"k must be at most {(most - _MORE_CANDIDATES) // 2} for ivfpq, which compares over twice as many in "
                f"{blocks.MEMORY_BUDGET} bytes, got {k or '0 (all)'}; ask for fewer, or use flat"
            )
        return number

    def search(self, queries: Vectors, k: int = 0) -> Neighbours:
        """See :meth:`inference.neighbours.Index.search`; neighbours may be missed, the distances are exact."""
        k = self.asked(k)
        given = checked_vectors("queries", queries, self._vectors.shape[1])
        wanted = self._candidates(k)
        per_query = wanted * self._bytes_per_candidate
        found = Neighbours(np.empty((len(given), k), np.float32), np.empty((len(given), k), np.int64))
        options = self._search_options(wanted)
        for rows in blocks.row_blocks(len(given), per_query):
            block = self._measure.prepared(given[rows])
            squared, items = self._content.search(block.numpy(), wanted, params=options)
            if self._refines:
                squared, items = self._refined(block, torch.from_numpy(items), k)
            squared[items == NOT_FOUND] = np.inf
            found.distances[rows], found.indices[rows] = self._measure.distances(squared), items
        return found

    def save(self, path: Path) -> None:
        """Write it to ``path``, whole or not at all."""
        with written_aside(path) as aside:
            _faiss().write_index(self._content, str(aside))

    @property
    def _bytes_per_candidate(self) -> int:
        return 24 + self._refines * 8 * self._vectors.shape[1]

    def _candidates(self, k: int) -> int:
        return min(len(self), 2 * k + _MORE_CANDIDATES) if self._refines else k

    def _search_options(self, wanted: int) -> Any:  # noqa: ANN401 (faiss has no types)
        if not self._refines:
            return _faiss().SearchParametersHNSW(efSearch=max(128, 2 * wanted))
        return _faiss().SearchParametersIVF(nprobe=max(16, self._content.nlist // 32))

    def _refined(self, queries: Tensor, items: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest of the candidates ``items`` (Q, C) by exact squared distances."""
        with full_precision(queries.device):
            candidates = self._measure.prepared(self._vectors[items.clamp(0).flatten()])
            difference = candidates.view(*items.shape, -1).sub_(queries[:, None])
            squared = difference.square_().sum(2).masked_fill_(items == NOT_FOUND, torch.inf)
        squared, order = squared.sort(dim=1, stable=True)
        return squared[:, :k].numpy(), items.gather(1, order[:, :k]).numpy()


def build_faiss(vectors: Vectors, kind: str, *, normalize: bool = True) -> FaissIndex:
    """Build an index; vectors are added block by block, training uses a sample within the budget.

    Args:
        vectors: (N, D) floating point, torch or numpy; a memory map is never loaded whole.
        kind: ``hnsw`` or ``ivfpq``.
        normalize: cosine distance; False = squared euclidean distance.

    Raises:
        ReidError: if FAISS is not installed, or the vectors are too few for ``ivfpq`` or not finite.
    """
    faiss = _faiss()
    matrix = checked_vectors("vectors", vectors)
    measure = _Measure(normalize)
    parameters = parameters_for(kind, len(matrix), matrix.shape[1])
    if kind == "hnsw":
        content = faiss.IndexHNSWFlat(matrix.shape[1], parameters["links"])
        content.hnsw.efConstruction = parameters["construction"]
    else:
        coarse = faiss.IndexFlatL2(matrix.shape[1])
        content = faiss.IndexIVFPQ(coarse, matrix.shape[1], parameters["lists"], parameters["bytes"], 8)
        chosen = np.random.default_rng(_SEED).choice(len(matrix), parameters["sample"], replace=False)
        content.train(measure.prepared(matrix[torch.from_numpy(np.sort(chosen))]).numpy())
    for rows in blocks.blocks_of(len(matrix), min(_BLOCK, max(1, blocks.MEMORY_BUDGET // (8 * matrix.shape[1])))):
        content.add(measure.prepared(matrix[rows]).numpy())
    return FaissIndex(content, matrix, measure)


def parameters_for(kind: str, num_items: int, dim: int) -> dict[str, int]:
    """What an index of this many vectors is built with.

    Raises:
        ReidError: if they are too few for ``ivfpq``.
    """
    if kind == "hnsw":
        return {"links": 32, "construction": 100}
    if num_items < _SMALLEST_IVFPQ:
        raise ReidError(
            f"index ivfpq needs {_SMALLEST_IVFPQ} vectors or more to learn its codes, got {num_items}; use flat"
        )
    sample = min(num_items, max(_SMALLEST_IVFPQ, blocks.MEMORY_BUDGET // (4 * dim)))
    lists = min(2 * math.isqrt(num_items), sample // _TRAINING_PER_CODE)
    most_bytes = max(1, dim // 8)
    return {
        "lists": lists,
        "bytes": next(count for count in range(most_bytes, 0, -1) if dim % count == 0),
        "sample": min(sample, 64 * max(lists, _CODES)),
    }


def load_faiss(path: Path, vectors: Vectors, *, normalize: bool = True) -> FaissIndex:
    """Read what :meth:`FaissIndex.save` has written for the same vectors.

    Raises:
        ReidError: if FAISS is not installed, or the file is damaged or of other vectors.
    """
    read = partial(_faiss().read_index, str(path))
    matrix = checked_vectors("vectors", vectors)
    try:
        content = read()
    except RuntimeError as error:
        reason = one_line(error)[-120:]
        raise ReidError(
            f"{path} must be an index, but cannot be read ({reason}); delete it to build it anew"
        ) from error
    if (content.ntotal, content.d) != tuple(matrix.shape):
        raise ReidError(
            f"{path} must belong to the embeddings ({len(matrix)} x {matrix.shape[1]}), got an index of "
            f"{content.ntotal} x {content.d}; delete it to build it anew"
        )
    return FaissIndex(content, matrix, _Measure(normalize))


def _faiss() -> Any:  # noqa: ANN401 (faiss has no types)
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # it tells at length which variants are absent
    try:
        import faiss
    except ImportError as error:
        raise ReidError(
            "kinds hnsw and ivfpq need FAISS, which is not installed; pip install faiss-cpu, or use flat"
        ) from error
    return faiss
