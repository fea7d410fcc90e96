"""Re-ranking with k-reciprocal encoding (Zhong, Zheng, Cao, Li, CVPR 2017), in bounded memory.

Let x be the Q queries followed by the G gallery items, N = Q + G, each of length 1.

1. d(i, j) = |x_i - x_j|^2 / max over all N items j' of |x_i - x_j'|^2, so each row has its own unit, as in
   the widely used implementation: d is not symmetric.
2. F(i, k): i itself and its k nearest items (equal ones by lower index). R(i, k): the items j of F(i, k)
   with i in F(j, k). R*(i): R(i, k1), joined with each R(c, k1/2), c in R(i, k1), more than two thirds of
   which lie in R(i, k1); k1/2 is rounded, halves to the even integer.
3. V(i, j) = exp(-d(i, j)) for j in R*(i), otherwise 0, each row divided by its sum.
4. Local query expansion: V(i) becomes the mean of V over the first k2 items of F(i), i itself included.
5. Jaccard distance J(i, j) = 1 - s / (2 - s) with s the sum over m of min(V(i, m), V(j, m)).
6. The result is (1 - lambda) J + lambda d, for queries against gallery items.

Only lists of neighbours and the non-zero entries of V are held. All of it is torch, on the inputs' device.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.features import Features, check_features
from evaluation.inputs import check_count
from evaluation.neighbours import nearest_among, normalised
from evaluation.reciprocal_encoding import SMALLEST_UNIT, encode
from evaluation.sparse_rows import SparseRows, gallery_holders, local_mean, shared_weight
from utils.blocks import row_blocks
from utils.errors import ReidError
from utils.precision import full_precision


class Reciprocal(NamedTuple):
    """Parameters of the re-ranking; the defaults are those of the paper for Market-1501.

    Attributes:
        k1: neighbours in which items must find each other.
        k2: items averaged in the local query expansion.
        lambda_value: weight of the original distance.
    """

    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3


class DistanceBlock(NamedTuple):
    """The distances of some queries to the whole gallery.

    Attributes:
        queries: slice of consecutive queries; consecutive blocks cover all of them in order.
        distances: (number of those queries, G) float32, on the device of the features.
    """

    queries: slice
    distances: Tensor


def k_reciprocal(
    query: Features,
    gallery: Features,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    out: Tensor | NDArray[Any] | None = None,
) -> Tensor:
    """Re-ranked distances of all queries to all gallery items, as one matrix.

    A gallery smaller than ``k1`` or ``k2`` is no mistake: the lists then hold all N items. Features in
    float64 are computed in float64, all others in float32.

    References:
        Zhong, Zheng, Cao, Li, "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017.

    Args:
        query: (Q, D) floating point tensor or array, of any scale (cosine similarity is used).
        gallery: (G, D) the same; the query is brought to its device.
        k1: neighbours in which items must find each other, 1 or more.
        k2: items averaged in the local query expansion, the item itself included; 1 switches it off.
        lambda_value: weight of the original distance, from 0 (Jaccard only) to 1 (original only).
        out: (Q, G) float32 tensor or writable C-ordered array (also an ``np.memmap``) to write into; by
            default a new tensor on the device of the gallery.

    Returns:
        (Q, G) float32; shares its memory with ``out`` where that is given.

    Raises:
        ReidError: if the features are no two finite matrices of the same width, if a parameter
            is out of range, or if ``out`` does not fit.
    """
    query, gallery, *_ = check_features(query, gallery)
    target = _target((len(query), len(gallery)), out, query.device)
    for rows, distances in k_reciprocal_blocks(query, gallery, k1=k1, k2=k2, lambda_value=lambda_value):
        target[rows] = distances.to(target.device)
    return target


def k_reciprocal_blocks(
    query: Features,
    gallery: Features,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
) -> Iterator[DistanceBlock]:
    """The rows of :func:`k_reciprocal`, one block of queries after the other; arguments and errors as there.

    Arguments are checked at the call; the work begins with the first block asked for.
    """
    for name, value in {"k1": k1, "k2": k2}.items():
        check_count(name, value)
    if not 0.0 <= lambda_value <= 1.0:
        raise ReidError(
            f"lambda_value must be from 0 (Jaccard only) to 1 (original distance only), got {lambda_value!r}"
        )
    query, gallery, *_ = check_features(query, gallery)
    return _blocks(normalised(query, gallery), len(query), k1, k2, lambda_value)


def _target(shape: tuple[int, int], out: Tensor | NDArray[Any] | None, device: torch.device) -> Tensor:
    if out is None:
        return torch.empty(shape, device=device)
    writable = isinstance(out, Tensor) or (out.flags.writeable and out.flags.c_contiguous)
    if tuple(out.shape) != shape or out.dtype not in (torch.float32, np.float32) or not writable:
        raise ReidError(
            f"out must be writable, C-ordered, float32 and of shape {shape} (queries, gallery), got "
            f"{tuple(out.shape)} of {out.dtype}: allocate it so, or leave it out"
        )
    return out if isinstance(out, Tensor) else torch.from_numpy(out)


def _blocks(features: Tensor, num_queries: int, k1: int, k2: int, lambda_value: float) -> Iterator[DistanceBlock]:
    # Set anew for each block, and never held over a yield: the caller's precision is not ours to change.
    with full_precision(features.device):
        found = nearest_among(features, min(max(k1 + 1, k2), len(features)))
        encoding = encode(features, found, k1)
        encoding = local_mean(encoding, found.indices[:, :k2])
        holders = gallery_holders(encoding, num_queries)
        unit = (1.0 - found.lowest[:num_queries, None]).clamp_min_(SMALLEST_UNIT)
    gallery = features[num_queries:]
    # Half of the budget for four matrices of a block's shape, half for the pairs of entries they come from.
    row_bytes = 4 * len(gallery) * features.element_size()
    for rows in row_blocks(num_queries, row_bytes, 0.5):
        with full_precision(features.device):
            distances = _jaccard(encoding, holders, rows, len(gallery))
            distances.mul_(1.0 - lambda_value)
            if lambda_value > 0.0:
                original = (1.0 - features[rows] @ gallery.T).div_(unit[rows]).clamp_(0.0, 1.0)
                distances.add_(original, alpha=lambda_value)
        yield DistanceBlock(rows, distances.float())


def _jaccard(encoding: SparseRows, holders: SparseRows, rows: slice, num_gallery: int) -> Tensor:
    """Step 5 of the module's list, (len(rows), G)."""
    shared = shared_weight(encoding, holders, rows, num_gallery)
    return shared.div_(2.0 - shared).neg_().add_(1.0)
