"""Query expansion: a query is replaced by the weighted sum of itself and its nearest gallery items."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from evaluation.retrieval.inputs import Retrieval, check_count
from evaluation.retrieval.knn import nearest, normalize
from utils.blocks import row_blocks
from utils.errors import ReidError
from utils.precision import full_precision


@dataclass(frozen=True)
class QueryExpansion:
    """Parameters of the query expansion.

    Attributes:
        k: gallery items added to each query, 1 or more; in a smaller gallery all of it.
        alpha: power of the similarity that weighs them, 0 or more (Radenovic et al. use 3).

    Raises:
        ReidError: if a parameter is out of range.
    """

    k: int
    alpha: float

    def __post_init__(self) -> None:
        check_count("k", self.k)
        if not 0.0 <= self.alpha < float("inf"):
            raise ReidError(
                f"alpha must be a finite number of 0 or more, got {self.alpha!r}: use 0 for a plain average"
            )


def expand_queries(retrieval: Retrieval, parameters: QueryExpansion) -> Retrieval:
    """Expand queries by their ``k`` nearest gallery items (alpha-QE).

    With q and g normalized, and s their cosine similarity, a query becomes the normalized
    q + sum over its k nearest g of max(s, 0)^alpha g. ``alpha`` 0 weighs all alike, which is average query
    expansion, whatever the sign of s; a large ``alpha`` leaves the query almost as it was.

    The procedure reads no identity and no camera, so Market-1501's camera rule does not apply: items that the
    evaluation skips for a query (of its own identity and camera) take part in its expansion. To leave them out would
    need the labels, and would tell the query who is who.

    References:
        Radenovic, Tolias, Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2018
        (alpha-QE); Chum, Philbin, Sivic, Isard, Zisserman, "Total Recall: Automatic Query Expansion with a
        Generative Feature Model for Object Retrieval", ICCV 2007 (average).

    Args:
        retrieval: query and gallery.
        parameters: how many items join a query, and with which weights.

    Returns:
        The same gallery with queries of length 1. Neighbors of equal similarity are in the order of their
        index.
    """
    features = normalize(retrieval.query, retrieval.gallery)
    query, gallery = features[: len(retrieval.query)], features[len(retrieval.query) :]
    k = min(parameters.k, len(gallery))
    result = torch.empty_like(query)
    with full_precision(gallery.device):
        neighbors = nearest(query, gallery, k)
        # A negative similarity has no real fractional power, and such an item is not a neighbor.
        weights = neighbors.values.clamp_min(0.0).pow(parameters.alpha)
        for rows in row_blocks(len(query), k * gallery.shape[1] * gallery.element_size()):
            items = torch.einsum("qk,qkd->qd", weights[rows], gallery[neighbors.indices[rows]])
            result[rows] = F.normalize(query[rows] + items, dim=1)
    return retrieval.with_query(result)
