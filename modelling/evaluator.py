"""Collect the embeddings of an evaluation at every resolution that it needs, and evaluate them."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from evaluation.protocols import EvaluationData
from evaluation.results import Entry, EvaluationProtocol
from evaluation.retrieval.inputs import LabeledImage
from utils.blocks import row_blocks

_SHARE = 0.25  # of the memory budget, for the rows that are summed over processes at once


class Evaluator:
    """Buffers, labels and protocols of one evaluation.

    Args:
        protocols: what is measured.
        query: labels of Q images.
        gallery: labels of G images.
        precision: in which the backbone embeds, one of :data:`modelling.deployment.PRECISIONS`.

    Attributes:
        buffers: scale -> the buffer to fill.
        flip: a vector is the mean of those of the image and of its mirror image.
    """

    def __init__(
        self,
        protocols: Sequence[EvaluationProtocol],
        query: Sequence[LabeledImage],
        gallery: Sequence[LabeledImage],
        precision: str = "fp32",
    ) -> None:
        self.precision = precision
        self.flip = any(protocol.flip for protocol in protocols)
        self._protocols, self._query, self._gallery = tuple(protocols), query, gallery
        self.buffers: dict[int, EmbeddingBuffer] = {}

    def start(self) -> None:
        """Make an empty buffer for each scale at which a protocol needs queries or gallery."""
        num_queries, num_rows = len(self._query), len(self._query) + len(self._gallery)
        for scale in sorted({scale for protocol in self._protocols for scale in protocol.scales}):
            first = 0 if any(protocol.query_scale == scale for protocol in self._protocols) else num_queries
            last = num_rows if any(protocol.gallery_scale == scale for protocol in self._protocols) else num_queries
            self.buffers[scale] = EmbeddingBuffer(num_rows, slice(first, last))

    def finish(self, dim: int, device: torch.device) -> tuple[tuple[Entry, ...], EvaluationData]:
        """Evaluate; every process gets the same entries.

        Args:
            dim: components of an embedding, D.
            device: where the evaluation computes.

        Returns:
            One entry per protocol, and the embeddings behind them: scale -> (Q + G, D) float32, the queries first.
        """
        vectors = {scale: buffer.gather(dim, device) for scale, buffer in self.buffers.items()}
        self.buffers = {}
        data = EvaluationData(vectors, self._query, self._gallery)
        return data.evaluate(self._protocols), data


class EmbeddingBuffer:
    """One row per image, filled in any order by any process.

    Args:
        num_rows: number of images.
        rows: the rows to fill; the others stay zero.
    """

    def __init__(self, num_rows: int, rows: slice) -> None:
        self._num_rows, self._rows = num_rows, rows
        self._vectors: Tensor | None = None
        self._counts: Tensor | None = None

    def mask(self, indices: Tensor) -> Tensor | None:
        """Which of the rows (N,) are to be filled, (N,) bool; None if that holds for all rows of the buffer."""
        if self._rows == slice(0, self._num_rows):
            return None
        is_inside: Tensor = (indices >= self._rows.start) & (indices < self._rows.stop)
        return is_inside

    def put(self, indices: Tensor, vectors: Tensor) -> None:
        """Store vectors.

        Args:
            indices: (N,) int64 rows.
            vectors: (N, D), stored as float32 on their device.
        """
        buffer, counts = self._allocate(vectors.shape[1], vectors.device)
        buffer[indices] = vectors.float()
        counts.index_add_(0, indices, torch.ones_like(indices, dtype=torch.int32))

    def gather(self, dim: int, device: torch.device) -> Tensor:
        """All rows, the same on every process; a collective call where there are several.

        Args:
            dim: D, for a process whose share was empty.
            device: of the buffer of such a process.

        Returns:
            (num_rows, D) float32.

        Raises:
            RuntimeError: if a row was not filled exactly once, because the loader's shares are wrong.
        """
        vectors, counts = self._allocate(dim, device)
        if dist.is_available() and dist.is_initialized():
            # Every row is zero except on the process that filled it, so a sum is a gather without padding.
            for rows in row_blocks(self._num_rows, 4 * vectors.shape[1], _SHARE):
                dist.all_reduce(vectors[rows])
            dist.all_reduce(counts)
        once = torch.zeros_like(counts)
        once[self._rows] = 1
        if not bool((counts == once).all()):
            row = int((counts != once).nonzero()[0])
            raise RuntimeError(f"row {row} was filled {int(counts[row])} times instead of {int(once[row])}")
        return vectors

    def _allocate(self, dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
        if self._vectors is None or self._counts is None:
            self._vectors = torch.zeros(self._num_rows, dim, device=device)
            self._counts = torch.zeros(self._num_rows, dtype=torch.int32, device=device)
        return self._vectors, self._counts
