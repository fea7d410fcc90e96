"""Re-ranking with k-reciprocal encoding (Zhong, Zheng, Cao, Li, CVPR 2017), in bounded memory.

Let x be the Q queries followed by the G gallery items, N = Q + G, each of length 1.

- d(i, j) = |x_i - x_j|^2 / max over all N items j' of |x_i - x_j'|^2: each row has its own unit, as in the
  widely used implementation, so d is not symmetric.
- V(i) is the encoding of item i by its k1-reciprocal neighbors (:mod:`evaluation.retrieval.reciprocal`), then the
  mean of V over the k2 items nearest to i, itself included. Equal items are neighbors in the order of their index.
- The Jaccard distance is J(i, j) = 1 - s / (2 - s) with s the sum over m of min(V(i, m), V(j, m)).
- The result is (1 - lambda) J + lambda d, for queries against gallery items.

Only lists of neighbors and the non-zero entries of V are held. Everything is torch, on the device of the inputs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.retrieval.inputs import FeatureArray, check_count, check_features
from evaluation.retrieval.knn import nearest_among, normalize
from evaluation.retrieval.reciprocal import distance_units, encode, gallery_holders, local_mean, shared_weight
from utils.blocks import row_blocks
from utils.errors import ReidError
from utils.precision import full_precision


@dataclass(frozen=True)
class Reciprocal:
    """Parameters of the re-ranking; the defaults are those of the paper for Market-1501.

    Attributes:
        k1: neighbors in which items must find each other, 1 or more.
        k2: items averaged in the local query expansion, the item itself included; 1 switches it off.
        lambda_value: weight of the original distance, from 0 (Jaccard only) to 1 (original only).

    Raises:
        ReidError: if a parameter is out of range.
    """

    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3

    def __post_init__(self) -> None:
        check_count("k1", self.k1)
        check_count("k2", self.k2)
        if not 0.0 <= self.lambda_value <= 1.0:
            raise ReidError(
                f"lambda_value must be from 0 (Jaccard only) to 1 (original distance only), got {self.lambda_value!r}"
            )


def k_reciprocal(
    query: FeatureArray,
    gallery: FeatureArray,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    out: Tensor | NDArray[Any] | None = None,
) -> Tensor:
    """Re-ranked distances of all queries to all gallery items, as one matrix.

    The gallery may be smaller than ``k1`` or ``k2``; the lists then hold all N items. Features in
    float64 are computed in float64, all others in float32.

    References:
        Zhong, Zheng, Cao, Li, "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017.

    Args:
        query: (Q, D) floating point tensor or array, of any scale (cosine similarity is used).
        gallery: (G, D) the same; the query is brought to its device.
        k1: see :class:`Reciprocal`.
        k2: see :class:`Reciprocal`.
        lambda_value: see :class:`Reciprocal`.
        out: (Q, G) float32 tensor or writable C-ordered array (also an ``np.memmap``) to write into; by
            default a new tensor on the device of the gallery.

    Returns:
        (Q, G) float32, in the memory of ``out`` if there is one.

    Raises:
        ReidError: if the features are not two finite matrices of the same width, if a parameter is out of range, or
            if ``out`` does not fit.
    """
    parameters = Reciprocal(k1, k2, lambda_value)
    query, gallery = check_features(query, gallery)
    target = _target((len(query), len(gallery)), out, query.device)
    for rows, distances in k_reciprocal_blocks(query, gallery, parameters):
        target[rows] = distances.to(target.device)
    return target


def k_reciprocal_blocks(query: Tensor, gallery: Tensor, parameters: Reciprocal) -> Iterator[tuple[slice, Tensor]]:
    """The rows of :func:`k_reciprocal`, one block of queries after the other.

    Args:
        query: (Q, D) finite floating point.
        gallery: (G, D) finite floating point, on the device of the query.
        parameters: of the re-ranking.

    Yields:
        Rows of the query, in order, each with their (rows, G) float32 distances on the device of the features.
    """
    k1, k2, weight = parameters.k1, parameters.k2, parameters.lambda_value
    features, num_queries = normalize(query, gallery), len(query)
    # Never held over a yield: the caller's precision is not ours to change.
    with full_precision(features.device):
        neighbors = nearest_among(features, min(max(k1 + 1, k2), len(features)))
        encoding = local_mean(encode(features, neighbors, k1), neighbors.indices[:, :k2])
        holders = gallery_holders(encoding, num_queries)
        unit = distance_units(neighbors)[:num_queries, None]
    items = features[num_queries:]
    # Half of the budget is for four matrices of a block's shape, half for the pairs of entries behind them.
    for rows in row_blocks(num_queries, 4 * len(items) * features.element_size(), 0.5):
        with full_precision(features.device):
            shared = shared_weight(encoding, holders, rows, len(items))
            distances = shared.div_(2.0 - shared).neg_().add_(1.0).mul_(1.0 - weight)
            if weight > 0.0:
                original = (1.0 - features[rows] @ items.T).div_(unit[rows]).clamp_(0.0, 1.0)
                distances.add_(original, alpha=weight)
        yield rows, distances.float()


def _target(shape: tuple[int, int], out: Tensor | NDArray[Any] | None, device: torch.device) -> Tensor:
    if out is None:
        return torch.empty(shape, device=device)
    is_writable = isinstance(out, Tensor) or (out.flags.writeable and out.flags.c_contiguous)
    if tuple(out.shape) != shape or out.dtype not in (torch.float32, np.float32) or not is_writable:
        raise ReidError(
            f"out must be writable, C-ordered, float32 and of shape {shape} (queries, gallery), got "
            f"{tuple(out.shape)} of {out.dtype}: allocate it so, or leave it out"
        )
    return out if isinstance(out, Tensor) else torch.from_numpy(out)
