"""What all losses share: the checks of their arguments, and a value with figures for the log.

A loss is a module that is called with embeddings, one matrix for each view of the batch, and the identities. It
may offer ``with_statistics``, called in the same way, and ``own_optimizer``
(:class:`losses.objectives.Objective`). Nothing in this package makes the host wait for the device: checks look at
shapes and types, never at values.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from utils.errors import ReidError


class LossWithStatistics(NamedTuple):
    """A loss and what is worth logging about it.

    Attributes:
        loss: 0-d tensor with a graph.
        statistics: name -> detached 0-d tensor.
    """

    loss: Tensor
    statistics: dict[str, Tensor]


def check_sizes(num_ids: int, dim: int) -> None:
    """Refuse sizes of a learned loss that are not positive.

    Raises:
        ReidError: naming both.
    """
    if num_ids < 1 or dim < 1:
        raise ReidError(
            f"num_ids and dim must be at least 1, got {num_ids} and {dim}; pass the number of training identities "
            "and the dim of the features"
        )


def check_batch(embeddings: Tensor, ids: Tensor, dim: int | None = None) -> None:
    """Refuse tensors that do not describe one batch.

    Args:
        embeddings: must be (N, D) floating point with N >= 1.
        ids: must be (N,) integer.
        dim: what D must be; None for any.

    Raises:
        ReidError: if a tensor is anything else.
    """
    if embeddings.ndim != 2 or len(embeddings) == 0 or not embeddings.is_floating_point():
        raise ReidError(
            "embeddings must be a floating-point matrix (N, D) of at least one row, "
            f"got {_describe(embeddings)}; pass one row for each image"
        )
    if dim not in (None, embeddings.shape[1]):
        raise ReidError(
            f"embeddings must have {dim} columns, the dim of this loss, got {embeddings.shape[1]}; "
            "build the loss with the dim of the features"
        )
    rows = (len(embeddings),)
    if ids.shape != rows or ids.is_floating_point() or ids.dtype == torch.bool:
        raise ReidError(
            f"ids must be integers of shape {rows}, one for each embedding, got {_describe(ids)}; "
            "pass the identity label of each image"
        )


def _describe(tensor: Tensor) -> str:
    return f"shape {tuple(tensor.shape)} of {tensor.dtype}"
