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
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from inference.indexes.base import NOT_FOUND, SearchResult, Vectors, as_matrix, finite_rows, resolve_k
from utils import blocks
from utils.errors import ReidError, one_line
from utils.files import written_aside
from utils.precision import full_precision

_CODES, _TRAINING_PER_CODE = 256, 39  # of product quantization (8 bits), and what FAISS asks for at least
_SMALLEST_IVFPQ = _CODES * _TRAINING_PER_CODE
_MORE_CANDIDATES = 100  # than 2 k: of ivfpq, whose codes know distances roughly
_ALWAYS_COMPARED = 4096  # candidates, whatever the budget
_BLOCK = 16384  # rows added at once
_SEED = 0


class FaissIndex:
    """A FAISS index over vectors, as :func:`build_faiss` and :func:`load_faiss` give it.

    ``ivfpq`` refines its candidates by the vectors; ``hnsw`` holds them itself.
    """

    def __init__(self, content: Any, vectors: Tensor, *, normalize: bool) -> None:  # noqa: ANN401
        """Take ``content``, a filled index of the FAISS library, over ``vectors`` (N, D)."""
        self._refines = hasattr(content, "pq")
        self._content = content
        self._vectors = vectors
        self._normalize = normalize

    @property
    def parameters(self) -> dict[str, int]:
        """The parameters with which the index was built."""
        if self._refines:
            return {"lists": self._content.nlist, "bytes": self._content.pq.M}
        hnsw = self._content.hnsw
        return {"links": hnsw.nb_neighbors(1), "construction": hnsw.efConstruction}

    def __len__(self) -> int:
        """Number of vectors."""
        return len(self._vectors)

    def resolve_k(self, k: int) -> int:
        """See :meth:`inference.indexes.base.Index.resolve_k`."""
        number = resolve_k(k, len(self))
        most = max(_ALWAYS_COMPARED, blocks.MEMORY_BUDGET // self._bytes_per_candidate)
        if self._refines and self._num_candidates(number) > most:
            raise ReidError(
                f"k must be at most {(most - _MORE_CANDIDATES) // 2} for ivfpq, which compares over twice as many in "
                f"{blocks.MEMORY_BUDGET} bytes, got {k or '0 (all)'}; ask for fewer, or use flat"
            )
        return number

    def search(self, queries: Vectors, k: int = 0) -> SearchResult:
        """See :meth:`inference.indexes.base.Index.search`; neighbors may be missed, the distances are exact."""
        k = self.resolve_k(k)
        matrix = as_matrix("queries", queries, self._vectors.shape[1])
        num_candidates = self._num_candidates(k)
        options = self._search_options(num_candidates)
        result = SearchResult(np.empty((len(matrix), k), np.float32), np.empty((len(matrix), k), np.int64))
        for rows in blocks.row_blocks(len(matrix), num_candidates * self._bytes_per_candidate):
            block = self._comparable(finite_rows("queries", matrix[rows], "cpu"))
            scores, items = self._content.search(block.numpy(), num_candidates, params=options)
            if self._refines:
                distances, items = self._refine(block, torch.from_numpy(items), k)
            else:
                distances = self._distances(scores)
            result.distances[rows] = np.where(items == NOT_FOUND, np.inf, distances.clip(0.0))
            result.indices[rows] = items
        return result

    def save(self, path: Path) -> None:
        """Write it to ``path``, whole or not at all; FAISS would not notice that a disk is full at the end."""
        with written_aside(path) as aside, aside.open("wb") as file:
            _faiss().write_index(self._content, _faiss().PyCallbackIOWriter(file.write))

    @property
    def _bytes_per_candidate(self) -> int:
        return 24 + self._refines * 8 * self._vectors.shape[1]

    def _num_candidates(self, k: int) -> int:
        return min(len(self), 2 * k + _MORE_CANDIDATES) if self._refines else k

    def _search_options(self, num_candidates: int) -> Any:  # noqa: ANN401 (faiss has no types)
        if not self._refines:
            return _faiss().SearchParametersHNSW(efSearch=max(128, 2 * num_candidates))
        return _faiss().SearchParametersIVF(nprobe=max(16, self._content.nlist // 32))

    def _comparable(self, rows: Tensor) -> Tensor:
        return _unit(rows) if self._normalize else rows

    def _distances(self, scores: np.ndarray) -> np.ndarray:
        """Turn inner products, or the squared distances that earlier versions stored, into distances."""
        if self._content.metric_type == _faiss().METRIC_INNER_PRODUCT:
            return 1.0 - scores
        return scores / 2 if self._normalize else scores

    def _refine(self, queries: Tensor, items: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Distances and places of the k nearest of the candidates ``items`` (Q, C), exactly."""
        with full_precision(queries.device):
            candidates = self._vectors[items.clamp(0).flatten()].to("cpu", torch.float32)
            candidates = self._comparable(candidates).view(*items.shape, -1)
            if self._normalize:
                distances = 1.0 - (candidates @ queries[:, :, None]).squeeze(2)
            else:
                distances = candidates.sub_(queries[:, None]).square_().sum(2)
        distances, order = distances.masked_fill_(items == NOT_FOUND, torch.inf).sort(dim=1, stable=True)
        return distances[:, :k].numpy(), items.gather(1, order[:, :k]).numpy()


def build_faiss(vectors: Vectors, kind: str, *, normalize: bool = True) -> FaissIndex:
    """Build an index; vectors are added block by block, training uses a sample within the budget.

    Args:
        vectors: (N, D) floating point, torch or numpy; a memory map is never loaded whole.
        kind: ``hnsw`` or ``ivfpq``.
        normalize: cosine distance; False = squared Euclidean distance.

    Raises:
        ReidError: if FAISS is not installed, or the vectors are too few for ``ivfpq`` or not finite.
    """
    faiss = _faiss()
    matrix = as_matrix("vectors", vectors)
    dim = matrix.shape[1]
    parameters = parameters_for(kind, len(matrix), dim)

    def comparable(rows: Tensor) -> np.ndarray:
        finite = finite_rows("vectors", rows, "cpu")
        return (_unit(finite) if normalize else finite).numpy()

    if kind == "hnsw":
        # Of unit vectors the inner product gives the same graph, and a vector of zeros a distance of 1.
        metric = faiss.METRIC_INNER_PRODUCT if normalize else faiss.METRIC_L2
        content = faiss.IndexHNSWFlat(dim, parameters["links"], metric)
        content.hnsw.efConstruction = parameters["construction"]
    else:
        content = faiss.IndexIVFPQ(faiss.IndexFlatL2(dim), dim, parameters["lists"], parameters["bytes"], 8)
        sample = np.random.default_rng(_SEED).choice(len(matrix), parameters["sample"], replace=False)
        content.train(comparable(matrix[torch.from_numpy(np.sort(sample))]))
    for rows in blocks.blocks_of(len(matrix), min(_BLOCK, max(1, blocks.MEMORY_BUDGET // (8 * dim)))):
        content.add(comparable(matrix[rows]))
    return FaissIndex(content, matrix, normalize=normalize)


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
    matrix = as_matrix("vectors", vectors)
    try:
        content = read()
    except RuntimeError as error:
        reason = one_line(error)[-120:]
        raise ReidError(
            f"{path} must be an index, but cannot be read ({reason}); delete it to build it again"
        ) from error
    if (content.ntotal, content.d) != tuple(matrix.shape):
        raise ReidError(
            f"{path} must belong to the embeddings ({len(matrix)} x {matrix.shape[1]}), got an index of "
            f"{content.ntotal} x {content.d}; delete it to build it again"
        )
    return FaissIndex(content, matrix, normalize=normalize)


def _unit(rows: Tensor) -> Tensor:
    """Rows of length 1; zeros stay."""
    return F.normalize(rows, eps=1e-12)


def _faiss() -> Any:  # noqa: ANN401 (faiss has no types)
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # it tells at length which variants are absent
    try:
        import faiss
    except ImportError as error:
        raise ReidError(
            "kinds hnsw and ivfpq need FAISS, which is not installed; pip install faiss-cpu, or use flat"
        ) from error
    return faiss
