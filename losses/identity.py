"""Identity loss: classification of the training identities."""

from torch import Tensor, nn
from torch.nn import functional as F

from losses.base import LossWithStatistics, check_batch, check_sizes
from utils.distance import at_least_float32
from utils.errors import ReidError


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
        check_sizes(num_ids, dim)
        if not 0.0 <= label_smoothing < 1.0:
            raise ReidError(
                f"label_smoothing must be >= 0 and < 1, got {label_smoothing!r}; 0.1 is usual, 0 switches it off"
            )
        self.label_smoothing = label_smoothing
        self.classifier = nn.Linear(dim, num_ids, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)

    def forward(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        """The loss of a batch, 0-d, the mean over its rows.

        Args:
            embeddings: (N, dim) floating point, the features after the BNNeck.
            ids: (N,) integer identities, 0 <= id < ``num_ids`` (not checked here: a look at values would
                make the host wait for the device; the cross entropy itself fails for others).

        Raises:
            ReidError: if shapes or types do not describe one batch.
        """
        return self._cross_entropy(self._logits(embeddings, ids), ids)

    def with_statistics(self, embeddings: Tensor, ids: Tensor) -> LossWithStatistics:
        """The loss, and ``accuracy``: the share of rows whose identity has the largest logit."""
        logits = self._logits(embeddings, ids)
        accuracy = (logits.detach().argmax(1) == ids).float().mean()
        return LossWithStatistics(self._cross_entropy(logits, ids), {"accuracy": accuracy})

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"label_smoothing={self.label_smoothing:g}"

    def _check(self, embeddings: Tensor, ids: Tensor) -> None:
        check_batch(embeddings, ids, self.classifier.in_features)

    def _logits(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        self._check(embeddings, ids)
        return at_least_float32(self.classifier(embeddings))

    def _cross_entropy(self, logits: Tensor, ids: Tensor) -> Tensor:
        return F.cross_entropy(logits, ids.long(), label_smoothing=self.label_smoothing)
