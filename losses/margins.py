"""Cosine classifiers: what a margin makes of the cosines between features and classes."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from losses.identity import IdentityLoss
from utils.distance import at_least_float32
from utils.errors import ReidError, lookup

Margin = Callable[[Tensor, float], tuple[Tensor, Tensor]]
"""``margin(cosines, m)`` -> what a class of its own scores and what another class scores, both (N, C), unscaled."""


class CosineIdentityLoss(IdentityLoss):
    """Cross entropy over scaled cosines whose own class has to win by a margin.

    The classifier's rows are normalized, and so are the features, so the length of neither can lower the loss. The
    statistic ``accuracy`` counts without the margin. Computed in float32 also under autocast.

    Args:
        num_ids: number of identities of the training set.
        dim: length of a feature.
        label_smoothing: as :class:`IdentityLoss`.
        margin: one of :data:`MARGINS`.
        size: m, >= 0: an angle in radians for ``arcface``, a cosine for the others.
        scale: s > 0, by which the scores are multiplied before the softmax.

    Raises:
        ReidError: if an argument is outside its range.
    """

    def __init__(
        self,
        num_ids: int,
        dim: int,
        label_smoothing: float = 0.1,
        margin: str = "circle",
        size: float = 0.35,
        scale: float = 64.0,
    ) -> None:
        super().__init__(num_ids, dim, label_smoothing)
        self._margin = lookup(MARGINS, margin, "margin")
        if not (math.isfinite(size) and size >= 0 and math.isfinite(scale) and scale > 0):
            raise ReidError(
                f"size must be >= 0 and scale > 0, got {size!r} and {scale!r}; 0.35 and 64 are usual for circle"
            )
        self.margin, self.size, self.scale = margin, size, scale
        torch.nn.init.normal_(self.classifier.weight, std=0.01)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{super().extra_repr()}, margin={self.margin!r}, size={self.size:g}, scale={self.scale:g}"

    def _logits(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        self._check(embeddings, ids)
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            features = F.normalize(at_least_float32(embeddings))
            return features @ F.normalize(self.classifier.weight).to(features.dtype).T

    def _cross_entropy(self, logits: Tensor, ids: Tensor) -> Tensor:
        own, other = self._margin(logits, self.size)
        is_own = ids[:, None] == torch.arange(logits.shape[1], device=logits.device)
        return super()._cross_entropy(self.scale * torch.where(is_own, own, other), ids)


def _arcface(cosines: Tensor, angle: float) -> tuple[Tensor, Tensor]:
    """ArcFace adds the margin to the angle; beyond 180 degrees a line goes on (Deng et al., CVPR 2019)."""
    sines = (1.0 - cosines.square()).clamp_min(1e-12).sqrt()
    own = cosines * math.cos(angle) - sines * math.sin(angle)
    return torch.where(cosines > math.cos(math.pi - angle), own, cosines - angle * math.sin(angle)), cosines


def _cosface(cosines: Tensor, size: float) -> tuple[Tensor, Tensor]:
    """CosFace subtracts the margin from the cosine (Wang et al., CVPR 2018)."""
    return cosines - size, cosines


def _circle(cosines: Tensor, size: float) -> tuple[Tensor, Tensor]:
    """Circle loss weighs each score by its distance from its optimum (Sun et al., CVPR 2020, with class weights)."""
    own_weight = (1.0 + size - cosines.detach()).clamp_min(0.0)
    other_weight = (cosines.detach() + size).clamp_min(0.0)
    return own_weight * (cosines - (1.0 - size)), other_weight * (cosines - size)


MARGINS: dict[str, Margin] = {"arcface": _arcface, "cosface": _cosface, "circle": _circle}
"""SOLVER.CLASSIFIER -> its margin."""
