"""What all losses share: checks of their arguments, and a loss with figures for the log.

A loss is a module that takes embeddings, one matrix for each view of the batch, and identities. It may have a method
``with_statistics``, which takes the same, and a method ``own_optimizer`` (:class:`losses.objectives.Objective`).
Nothing in this package makes the host wait for the device: checks look at shapes and types, never at values.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from utils.errors import ReidError


class LossWithStatistics(NamedTuple):
    """A loss and its figures for the log.

    Attributes:
        loss: 0-d tensor with a graph.
        statistics: name -> detached 0-d tensor.
    """

    loss: Tensor
    statistics: dict[str, Tensor]


def check_sizes(num_ids: int, dim: int) -> None:
    """Refuse sizes of a learned loss that are not positive.

    Raises:
        ReidError: if one is not; the message names both.
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
        dim: the D that is required; None for any.

    Raises:
        ReidError: if a tensor has another shape or type.
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
