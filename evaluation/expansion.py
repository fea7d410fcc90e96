"""Query expansion: a query is replaced by the weighted sum of itself and its nearest gallery items."""

import torch
from torch import Tensor
from torch.nn import functional as F

from evaluation.features import Features, check_features
from evaluation.inputs import check_count
from evaluation.neighbours import nearest, normalised
from utils.blocks import row_blocks
from utils.errors import ReidError
from utils.precision import full_precision


def expand_queries(
    query: Features,
    gallery: Features,
    *,
    k: int,
    alpha: float,
) -> Tensor:
    """Queries expanded by their ``k`` nearest gallery items (alpha-QE), of length 1.

    With q and g normalised, and s their cosine similarity, a query becomes the normalised
    q + sum over its k nearest g of max(s, 0)^alpha g. ``alpha`` 0 weighs all alike, which is average query
    expansion, whatever the sign of s; a large ``alpha`` leaves the query almost as it was. Rank the same
    gallery with the result.

    The procedure reads no identity and no camera, so Market-1501's camera rule does not enter: items that
    the evaluation will skip for a query (its own identity in its own camera) take part in its expansion.
    They could not be left out without the labels, and leaving them out would tell the query who is who.

    References:
        Radenovic, Tolias, Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2018
        (alpha-QE); Chum, Philbin, Sivic, Isard, Zisserman, "Total Recall: Automatic Query Expansion with a
        Generative Feature Model for Object Retrieval", ICCV 2007 (average).

    Args:
        query: (Q, D) floating point tensor or array, of any scale.
        gallery: (G, D) the same; the query is brought to its device.
        k: gallery items added to each query, 1 or more; in a smaller gallery all of it.
        alpha: power of the similarity, 0 or more (Radenovic et al. use 3).

    Returns:
        (Q, D) float32 (float64 if an input is) on the device of the gallery. Neighbours of equal similarity
        are taken in the order of their index.

    Raises:
        ReidError: if the features are no two finite matrices of the same width, or if ``k`` or ``alpha``
            is out of range.
    """
    check_count("k", k)
    if not 0.0 <= alpha < float("inf"):
        raise ReidError(f"alpha must be a finite number of 0 or more, got {alpha!r}: use 0 for a plain average")
    query, gallery, *_ = check_features(query, gallery)
    k = min(k, len(gallery))
    features = normalised(query, gallery)
    expanded, gallery = features[: len(query)], features[len(query) :]
    result = torch.empty_like(expanded)
    with full_precision(gallery.device):
        found = nearest(expanded, gallery, k)
        # A negative similarity has no real fractional power, and such an item is no neighbour.
        weights = found.similarities.clamp_min(0.0).pow(alpha)
        for rows in row_blocks(len(expanded), k * gallery.shape[1] * gallery.element_size()):
            added = torch.einsum("qk,qkd->qd", weights[rows], gallery[found.indices[rows]])
            result[rows] = F.normalize(expanded[rows] + added, dim=1)
    return result
