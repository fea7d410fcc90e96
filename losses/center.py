"""Center loss."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from losses.base import check_batch, check_sizes
from utils.distance import at_least_float32


class CenterLoss(nn.Module):
    """Squared euclidean distance of each image to the learned center of its identity, mean over the batch.

    Computed in float32 at least.

    Wen, Zhang, Li, Qiao: A Discriminative Feature Learning Approach for Deep Face Recognition, 2016; as used
    by Luo et al.: Bag of Tricks and a Strong Baseline for Deep Person Re-identification, 2019.

    Args:
        num_ids: number of identities of the training set.
        dim: length of an embedding.
        lr: learning rate of the centers.

    Attributes:
        centers: (num_ids, dim) parameter, drawn from a standard normal distribution.

    Raises:
        ReidError: if a size is not positive.
    """

    def __init__(self, num_ids: int, dim: int, lr: float = 0.5) -> None:
        super().__init__()
        check_sizes(num_ids, dim)
        self.lr = lr
        self.centers = nn.Parameter(torch.randn(num_ids, dim))

    def forward(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        """The loss of a batch, 0-d.

        Args:
            embeddings: (N, dim) floating point.
            ids: (N,) integer identities, 0 <= id < ``num_ids`` (not checked here: a look at values would
                make the host wait for the device; the lookup itself fails for others).

        Raises:
            ReidError: if shapes or types do not describe one batch.
        """
        check_batch(embeddings, ids, self.centers.shape[1])
        return (at_least_float32(embeddings) - F.embedding(ids.long(), self.centers)).square().sum(1).mean()

    def own_optimizer(self) -> SGD:
        """Plain SGD for the centers: no momentum, decay or schedule."""
        return SGD(self.parameters(), lr=self.lr, fused=True)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        num_ids, dim = self.centers.shape
        return f"num_ids={num_ids}, dim={dim}, lr={self.lr:g}"
