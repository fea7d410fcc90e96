"""Center loss."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from losses.mining import check_batch, without_padding
from utils.distance import at_least_float32
from utils.errors import ReidError


class CenterLoss(nn.Module):
    """Squared euclidean distance of each image to the learned centre of its identity, mean over the batch.

    The loss enters the objective with a small weight (5e-4), yet the centres have an optimiser of their own
    (SGD, rate 0.5) and must not learn more slowly for that weight. ``center_gradient_scale`` multiplies the
    gradient that reaches ``centers``, and nothing else: with 1 / weight they learn as if the weight were 1,
    and training code need not know. :class:`losses.objectives.Objective` sets it. Computed in float32 at
    least.

    Wen, Zhang, Li, Qiao: A Discriminative Feature Learning Approach for Deep Face Recognition, 2016; as used
    by Luo et al.: Bag of Tricks and a Strong Baseline for Deep Person Re-identification, 2019.

    Args:
        num_ids: number of identities of the training set.
        dim: length of an embedding.
        center_gradient_scale: factor on the gradient of the centres, > 0.

    Attributes:
        centers: (num_ids, dim) parameter, drawn from a standard normal distribution.

    Raises:
        ReidError: if a number is not positive.
    """

    def __init__(self, num_ids: int, dim: int, center_gradient_scale: float = 1.0) -> None:
        super().__init__()
        if num_ids < 1 or dim < 1:
            raise ReidError(f"num_ids and dim must be at least 1, got {num_ids} and {dim}")
        if not (math.isfinite(center_gradient_scale) and center_gradient_scale > 0):
            raise ReidError(
                f"center_gradient_scale must be a finite number > 0, got {center_gradient_scale!r}; "
                "use 1 / weight of the loss, or leave it out"
            )
        self.center_gradient_scale = center_gradient_scale
        self.centers = nn.Parameter(torch.randn(num_ids, dim))

    def forward(self, embeddings: Tensor, ids: Tensor, valid: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (N, dim) floating point.
            ids: (N,) integer identities, 0 <= id < ``num_ids`` (not checked here: a look at values would
                make the host wait for the device; the look-up itself fails on others).
            valid: (N,) bool, False for padding, which counts for nothing.

        Returns:
            0-d tensor.

        Raises:
            ReidError: if shapes or types do not describe one batch.
        """
        check_batch(embeddings, ids, valid)
        if embeddings.shape[1] != self.centers.shape[1]:
            raise ReidError(
                f"embeddings must have {self.centers.shape[1]} columns, the dim of CenterLoss, "
                f"got {embeddings.shape[1]}; build the loss with the dim of the features"
            )
        if valid is not None:
            ids = ids.masked_fill(~valid, 0)
        centers = F.embedding(ids.long(), _scale_gradient(self.centers, self.center_gradient_scale))
        squared = (at_least_float32(without_padding(embeddings, valid)) - centers).square().sum(1)
        if valid is None:
            return squared.mean()
        return squared.masked_fill(~valid, 0.0).sum() / valid.sum().clamp_min(1)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        num_ids, dim = self.centers.shape
        return f"num_ids={num_ids}, dim={dim}, center_gradient_scale={self.center_gradient_scale:g}"


class _ScaleGradient(torch.autograd.Function):
    """Identity whose gradient is multiplied by a constant."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: float) -> Tensor:  # noqa: ANN401 (torch's own context type)
        ctx.scale = scale
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return gradient * ctx.scale, None


def _scale_gradient(values: Tensor, scale: float) -> Tensor:
    result: Tensor = _ScaleGradient.apply(values, scale)
    return result
