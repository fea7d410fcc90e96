"""Identity loss: classification of the training identities."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from losses.mining import LossWithStatistics, check_batch, without_padding
from utils.distance import at_least_float32
from utils.errors import ReidError

_PADDING = -100


class IdentityLoss(nn.Module):
    """Linear classifier without bias and cross entropy with smoothed labels.

    The target of class c is ``(1 - e) * [c is the identity] + e / num_ids``, e = ``label_smoothing``. Under
    autocast the classifier's product follows autocast, as any layer does; the cross entropy is float32.

    Luo et al.: Bag of Tricks and a Strong Baseline for Deep Person Re-identification, 2019; label smoothing:
    Szegedy et al.: Rethinking the Inception Architecture for Computer Vision, 2016.

    Args:
        num_ids: number of identities of the training set.
        dim: length of a feature.
        label_smoothing: e, 0 <= e < 1.

    Attributes:
        classifier: linear layer (num_ids, dim) without bias, drawn with standard deviation 0.001.

    Raises:
        ReidError: if an argument is outside its range.
    """

    def __init__(self, num_ids: int, dim: int, label_smoothing: float = 0.1) -> None:
        super().__init__()
        if num_ids < 1 or dim < 1:
            raise ReidError(f"num_ids and dim must be at least 1, got {num_ids} and {dim}")
        if not 0.0 <= label_smoothing < 1.0:
            raise ReidError(
                f"label_smoothing must be >= 0 and < 1, got {label_smoothing!r}; 0.1 is usual, 0 switches it off"
            )
        self.label_smoothing = label_smoothing
        self.classifier = nn.Linear(dim, num_ids, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)

    def forward(self, bn_features: Tensor, ids: Tensor, valid: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            bn_features: (N, dim) floating point, the features after BNNeck.
            ids: (N,) integer identities, 0 <= id < ``num_ids`` (not checked here: a look at values would
                make the host wait for the device; the cross entropy itself fails on others).
            valid: (N,) bool, False for padding, which counts for nothing.

        Returns:
            0-d tensor, the mean over the valid rows, zero with a graph if there is none.

        Raises:
            ReidError: if shapes or types do not describe one batch.
        """
        return self._compute(bn_features, ids, valid)[0]

    def with_statistics(self, bn_features: Tensor, ids: Tensor, valid: Tensor | None = None) -> LossWithStatistics:
        """The loss, and ``accuracy``: the share of valid rows whose identity has the largest logit."""
        loss, logits = self._compute(bn_features, ids, valid)
        with torch.no_grad():
            right = logits.argmax(1) == ids
            if valid is None:
                return LossWithStatistics(loss, {"accuracy": right.float().mean()})
            accuracy = (right & valid).sum() / valid.sum().clamp_min(1)
        return LossWithStatistics(loss, {"accuracy": accuracy})

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"label_smoothing={self.label_smoothing:g}"

    def _compute(self, bn_features: Tensor, ids: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        check_batch(bn_features, ids, valid)
        if bn_features.shape[1] != self.classifier.in_features:
            raise ReidError(
                f"bn_features must have {self.classifier.in_features} columns, the dim of IdentityLoss, "
                f"got {bn_features.shape[1]}; build the loss with the dim of the features"
            )
        ids = ids.long()
        logits = at_least_float32(self.classifier(without_padding(bn_features, valid)))
        if valid is None:
            return F.cross_entropy(logits, ids, label_smoothing=self.label_smoothing), logits
        total = F.cross_entropy(
            logits,
            ids.masked_fill(~valid, _PADDING),
            ignore_index=_PADDING,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        return total / valid.sum().clamp_min(1), logits
