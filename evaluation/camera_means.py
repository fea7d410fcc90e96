"""Mean feature of each identity under each camera, from which centroids that leave a camera out are made."""

import numpy as np
import torch
from torch import Tensor

from utils.blocks import row_blocks
from utils.group_means import group_means, mean_weights

_SHARE = 2**-6  # of the memory budget: 4 MiB; larger blocks gain nothing, and leave the cache


class CameraMeans:
    """Mean feature of each (identity, camera); distractors (identity 0) have none.

    A centroid without one camera is the weighted mean of the others' means: nothing is subtracted, so nothing
    cancels, and an image is read once however many queries leave something else out.

    Attributes:
        ids: (K,) int64 identity of each group, ascending.
        cameras: (K,) int64 camera of each group.
        means: (K, D) mean features.
        counts: (K,) images in each, dtype of ``means``.
    """

    def __init__(self, features: Tensor, ids: Tensor, cameras: Tensor) -> None:
        person = ids > 0
        self.ids, self.cameras, group = unique_pairs(ids[person], cameras[person])
        num_groups = len(self.ids)
        # Distractors go to one group more, which is dropped: without them, the features would be copied.
        groups = torch.full_like(ids, num_groups).masked_scatter(person, group)
        means, counts = group_means(features, groups, num_groups + 1)
        self.means, self.counts = means[:num_groups], counts[:num_groups]

    def centroids(self, groups: Tensor, kept: Tensor) -> Tensor:
        """Means over the images of several groups.

        Args:
            groups: (N, C) positions of groups.
            kept: (N, C) bool, which of them enter.

        Returns:
            (N, D) in the dtype of ``means``, zero where no group is kept. The sum is taken in float64, so
            that centroids of equal float32 features are equal, whichever cameras they leave out.
        """
        weights = mean_weights((self.counts[groups] * kept).double())
        result = self.means.new_empty(len(groups), self.means.shape[1])
        per_centroid = (self.means.dtype.itemsize + 8) * self.means.shape[1] * (groups.shape[1] + 1)
        for rows in row_blocks(len(groups), per_centroid, _SHARE):
            members = self.means[groups[rows]].double()
            result[rows] = torch.bmm(weights[rows, None], members)[:, 0].to(result.dtype)
        return result


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
