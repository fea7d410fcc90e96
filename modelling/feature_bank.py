"""The embeddings of an evaluation, collected row by row and shared between processes once."""

import torch
import torch.distributed as dist
from torch import Tensor

# Rows are summed over processes in pieces of this many bytes, which bounds the memory beside the bank.
_PIECE_BYTES = 64 * 2**20


class FeatureBank:
    """One row per image, filled in any order by any process.

    Args:
        rows: number of images.
        needed: those of them that are going to be filled; None = all. The others stay zero.
    """

    def __init__(self, rows: int, needed: slice | None = None) -> None:
        self._rows, self._needed = rows, needed or slice(rows)
        self._vectors: Tensor | None = None
        self._filled: Tensor | None = None

    def put(self, indices: Tensor, vectors: Tensor) -> None:
        """Store vectors.

        Args:
            indices: (N,) int64 rows.
            vectors: (N, D), kept as float32 on their device.
        """
        if self._vectors is None or self._filled is None:
            self._vectors = torch.zeros(self._rows, vectors.shape[1], device=vectors.device)
            self._filled = torch.zeros(self._rows, dtype=torch.int32, device=vectors.device)
        self._vectors[indices] = vectors.float()
        self._filled.index_add_(0, indices, torch.ones_like(indices, dtype=torch.int32))

    def gather(self, dim: int, device: torch.device) -> Tensor:
        """All rows, the same on every process; a collective call where there are several.

        Args:
            dim: D, for a process whose share was empty.
            device: likewise.

        Returns:
            (rows, D) float32.

        Raises:
            RuntimeError: if a row was filled never or twice: the loader's shares are wrong.
        """
        if self._vectors is None or self._filled is None:
            self._vectors = torch.zeros(self._rows, dim, device=device)
            self._filled = torch.zeros(self._rows, dtype=torch.int32, device=device)
        if dist.is_available() and dist.is_initialized():
            rows_per_piece = max(1, _PIECE_BYTES // (4 * self._vectors.shape[1]))
            # Every row is zero except on the process that filled it, so a sum is a gather without padding.
            for start in range(0, self._rows, rows_per_piece):
                dist.all_reduce(self._vectors[start : start + rows_per_piece])
            dist.all_reduce(self._filled)
        right = torch.zeros_like(self._filled)
        right[self._needed] = 1
        if not bool((self._filled == right).all()):
            wrong = int((self._filled != right).nonzero()[0])
            raise RuntimeError(
                f"row {wrong} was filled {int(self._filled[wrong])} times instead of {int(right[wrong])}"
            )
        return self._vectors
