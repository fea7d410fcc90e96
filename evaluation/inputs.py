"""What every evaluation takes: query and gallery features with identities and cameras, checked once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evaluation.features import Features, check_features, check_not_empty
from utils.errors import ReidError

__all__ = ["Features", "Labels", "RetrievalInputs", "check_count", "check_inputs", "check_labels"]

_LARGEST_LABEL = 2**63 - 1  # of int64

Labels = Tensor | np.ndarray | Sequence[int]


@dataclass(frozen=True, eq=False)
class RetrievalInputs:
    """Query and gallery on one device (the gallery's), checked against one another.

    Attributes:
        query: (Q, D) in the dtype the distances are computed in, float32 at least.
        gallery: (G, D) in the dtype it was given in, which may be a half precision: it is never copied.
        query_norms: (Q,) L2 norms, finite, in the dtype of ``query``.
        gallery_norms: (G,) likewise.
        query_ids: (Q,) int64, positive.
        gallery_ids: (G,) int64; 0 is a distractor.
        query_cameras: (Q,) int64.
        gallery_cameras: (G,) int64.
    """

    query: Tensor
    gallery: Tensor
    query_norms: Tensor
    gallery_norms: Tensor
    query_ids: Tensor
    gallery_ids: Tensor
    query_cameras: Tensor
    gallery_cameras: Tensor


def check_inputs(
    query: Features,
    gallery: Features,
    query_ids: Labels,
    gallery_ids: Labels,
    query_cameras: Labels,
    gallery_cameras: Labels,
) -> RetrievalInputs:
    """Bring both sides to one device and refuse what cannot be ranked.

    Raises:
        ReidError: if a side is empty, no (N, D) matrix of floats, or holds NaN or infinity; if the
            dimensions or lengths differ; if labels are no integers, a query id is not positive or a
            gallery id is negative.
    """
    features = check_features(query, gallery)
    lengths = (len(features.query), len(features.gallery))
    labels = check_labels(query_ids, gallery_ids, query_cameras, gallery_cameras, lengths)
    return RetrievalInputs(*features, *(label.to(features.gallery.device) for label in labels))


def check_labels(
    query_ids: Labels,
    gallery_ids: Labels,
    query_cameras: Labels,
    gallery_cameras: Labels,
    lengths: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Labels of both sides as int64 tensors, in the order of the arguments.

    Args:
        query_ids: Q positive integers.
        gallery_ids: G integers, 0 for a distractor.
        query_cameras: Q integers.
        gallery_cameras: G integers.
        lengths: (Q, G).

    Raises:
        ReidError: if labels are no integers, of another length, or an id is out of its range.
    """
    ids_of_queries = _labels("query_ids", query_ids, lengths[0])
    ids_of_gallery = _labels("gallery_ids", gallery_ids, lengths[1])
    for name, ids, least in (("query_ids", ids_of_queries, 1), ("gallery_ids", ids_of_gallery, 0)):
        lowest = int(ids.min())
        if lowest < least:
            raise ReidError(
                f"{name} must be at least {least} (0 is a distractor, -1 junk), got {lowest} in row "
                f"{int(ids.argmin())}; leave junk out of both sides, distractors out of the query, and "
                f"number identities from 1"
            )
    return (
        ids_of_queries,
        ids_of_gallery,
        _labels("query_cameras", query_cameras, lengths[0]),
        _labels("gallery_cameras", gallery_cameras, lengths[1]),
    )


def check_count(name: str, value: int) -> None:
    """Refuse a count that is no integer of 1 or more.

    Raises:
        ReidError: naming ``name``.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ReidError(f"{name} must be an integer of 1 or more, got {value!r}: raise it to 1 at least")


def _labels(name: str, labels: Labels, length: int) -> Tensor:
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.ndim == 1 and len(array) == 0:
        check_not_empty(name.split("_")[0], length)
    if array.shape != (length,):
        raise ReidError(
            f"{name} must have one entry per feature ({length},), got {array.shape}; pass labels and "
            f"features in the same order and number"
        )
    if array.dtype.kind not in "iu":
        raise ReidError(f"{name} must be integers, got {array.dtype}; number the labels first")
    if length and int(array.max()) > _LARGEST_LABEL:
        raise ReidError(f"{name} must be below 2**63, got {array.max()}; number the labels from 1")
    return torch.from_numpy(array.astype(np.int64))
