"""What every evaluation takes: query and gallery features with identities and cameras, checked once."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from utils.errors import ReidError

Features = Tensor | np.ndarray
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
    queries, items = _matrix("query", query), _matrix("gallery", gallery)
    if queries.shape[1] != items.shape[1]:
        raise ReidError(
            f"query and gallery must have features of one dimension, got {queries.shape[1]} and "
            f"{items.shape[1]}; embed both with one model"
        )
    labels = check_labels(query_ids, gallery_ids, query_cameras, gallery_cameras, (len(queries), len(items)))
    dtype = torch.promote_types(torch.promote_types(queries.dtype, items.dtype), torch.float32)
    queries = queries.to(items.device, dtype)
    query_norms, gallery_norms = (
        _finite_norms("query", queries, dtype),
        _finite_norms("gallery", items, dtype),
    )
    return RetrievalInputs(
        queries, items, query_norms, gallery_norms, *(label.to(items.device) for label in labels)
    )


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


def as_tensor(array: Tensor | np.ndarray) -> Tensor:
    """The same numbers as a tensor without gradient, sharing memory wherever torch can.

    Raises:
        ReidError: if the array does not hold real numbers.
    """
    if isinstance(array, Tensor):
        return array.detach()
    if array.dtype.kind not in "fiu":
        raise ReidError(f"the matrix must hold real numbers, got {array.dtype}; convert it first")
    if any(stride < 0 for stride in array.strides) or not array.dtype.isnative:
        array = np.array(array, dtype=array.dtype.newbyteorder("="))
    with warnings.catch_warnings():
        # A read-only memory map is fine: nothing here writes into its inputs.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def check_not_empty(name: str, length: int) -> None:
    """Refuse a side without a single row.

    Raises:
        ReidError: if ``length`` is 0.
    """
    if length == 0:
        raise ReidError(f"{name} must hold at least one row, got none; check its folder and its filters")


def _matrix(name: str, features: Features) -> Tensor:
    numeric = isinstance(features, Tensor) or (
        isinstance(features, np.ndarray) and features.dtype.kind == "f"
    )
    matrix = as_tensor(features) if numeric else None
    if matrix is None or not matrix.is_floating_point() or matrix.ndim != 2:
        found = f"{tuple(features.shape)} {features.dtype}" if hasattr(features, "dtype") else type(features)
        raise ReidError(
            f"{name} must be an (N, D) tensor or array of floating point, got {found}; pass one "
            f"feature per row"
        )
    check_not_empty(name, len(matrix))
    return matrix


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
    return torch.from_numpy(array.astype(np.int64))


def _finite_norms(name: str, features: Tensor, dtype: torch.dtype) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(features, dim=1, dtype=dtype)
    undefined = torch.isfinite(norms).logical_not()
    if undefined.any():
        row = int(undefined.int().argmax())
        raise ReidError(
            f"{name} must be finite and of finite norm, got the norm {float(norms[row])} in row {row} "
            f"({int(undefined.sum())} such rows); look for NaN in the weights or for a diverged training"
        )
    return norms
