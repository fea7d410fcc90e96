"""Mean feature of each identity under each camera, from which centroids that leave a camera out are made."""

import numpy as np
import torch
from torch import Tensor

from utils.group_means import group_means


class CameraMeans:
    """Mean feature of each (identity, camera).

    A centroid without one camera is the weighted mean of the others' means: nothing is subtracted, so nothing
    cancels, and an image is read once however many queries leave something else out.

    Attributes:
        ids: (K,) int64 identity of each group, ascending.
        cameras: (K,) int64 camera of each group.
        means: (K, D) mean features.
        counts: (K,) images in each, dtype of ``means``.
    """

    def __init__(self, features: Tensor, ids: Tensor, cameras: Tensor) -> None:
        self.ids, self.cameras, group = unique_pairs(ids, cameras)
        self.means, self.counts = group_means(features, group, len(self.ids))

    def centroids(self, groups: Tensor, kept: Tensor) -> Tensor:
        """Means over the images of several groups.

        Args:
            groups: (N, C) positions of groups.
            kept: (N, C) bool, which of them enter.

        Returns:
            (N, D), zero where no group is kept.
        """
        weights = self.counts[groups] * kept
        weights = weights / weights.sum(1, keepdim=True).clamp_min(1.0)
        return torch.bmm(weights[:, None], self.means[groups])[:, 0]


def unique_pairs(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct pairs of two label vectors, sorted by the left one first.

    Args:
        left: (N,) int64.
        right: (N,) int64.

    Returns:
        Left and right labels (K,) of the distinct pairs, and the pair (N,) that each row belongs to.
    """
    left_labels, left_index = np.unique(left.cpu().numpy(), return_inverse=True)
    right_labels, right_index = np.unique(right.cpu().numpy(), return_inverse=True)
    pairs, index = np.unique(left_index * len(right_labels) + right_index, return_inverse=True)
    columns = (left_labels[pairs // len(right_labels)], right_labels[pairs % len(right_labels)], index)
    lefts, rights, group = (torch.from_numpy(column).to(left.device) for column in columns)
    return lefts, rights, group
