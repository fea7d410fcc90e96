"""Learned vectors of cameras (side information embeddings, SIE; He et al., ICCV 2021)."""

from collections.abc import Mapping

import torch
from torch import Tensor


def camera_vectors(table: Tensor, cameras: Tensor | None) -> Tensor:
    """The vectors of cameras, (N, 1, C), or (1, 1, C) if all are unknown.

    Args:
        table: (K, 1, C), one row for each of K cameras.
        cameras: (N,) int64 from 0 to K - 1; -1 or None = unknown, for which the mean of the table stands.
    """
    mean = table.mean(dim=0, keepdim=True)
    if cameras is None:
        return mean
    return torch.where((cameras < 0)[:, None, None], mean, table[cameras.clamp_min(0)])


def fit_cameras(state: dict[str, Tensor], own: Mapping[str, Tensor], table: str, target: str, weight: float) -> None:
    """Change the tensors of a file, whose cameras may be others than those of a network.

    A table of another length becomes its mean in each row. If the network has none, the mean joins ``target``. If the
    file has none, the network keeps its own.

    Args:
        state: of the file. Where shapes do not fit, it stays, and the check of the tensors will say so.
        own: of the network.
        table: name of the table, (K, ..., C).
        target: name of what the vectors are added to, (..., C).
        weight: of the vectors in this sum.
    """
    vectors = state.get(table)
    if vectors is None:
        state.update({table: own[table]} if table in own else {})
    elif vectors.shape[-1:] == own[target].shape[-1:]:
        mean = vectors.float().mean(dim=0)
        if table in own and vectors.shape != own[table].shape:
            state[table] = mean.expand_as(own[table]).clone()
        elif table not in own and target in state and state[target].shape == own[target].shape:
            state[target] = state[target] + weight * mean
            del state[table]
