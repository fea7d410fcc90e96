"""Features of query and gallery, checked against one another and brought to one device and precision."""

import warnings
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from utils.errors import ReidError

Features = Tensor | np.ndarray

_ELEMENTS_PER_CHUNK = 2**20


class FeaturePair(NamedTuple):
    """Both sides on the gallery's device, without gradient.

    Attributes:
        query: (Q, D) in the dtype the distances are computed in, float32 at least.
        gallery: (G, D) in the dtype it was given in, never copied.
        query_norms: (Q,) L2 norms, finite, in the dtype of ``query``.
        gallery_norms: (G,) likewise.
    """

    query: Tensor
    gallery: Tensor
    query_norms: Tensor
    gallery_norms: Tensor


def check_features(query: Features, gallery: Features) -> FeaturePair:
    """Bring both sides to one device and refuse what has no distances.

    Args:
        query: (Q, D) floating point, torch or numpy.
        gallery: (G, D) floating point, torch or numpy; shared, not copied.

    Raises:
        ReidError: if a side is empty, no (N, D) matrix of floats, or holds NaN or infinity; if the
            dimensions differ.
    """
    queries, items = _matrix("query", query), _matrix("gallery", gallery)
    if queries.shape[1] != items.shape[1]:
        raise ReidError(
            f"query and gallery must have features of one dimension, got {queries.shape[1]} and "
            f"{items.shape[1]}; embed both with one model"
        )
    dtype = torch.promote_types(torch.promote_types(queries.dtype, items.dtype), torch.float32)
    queries = queries.to(items.device, dtype)
    query_norms = _finite_norms("query", queries, dtype)
    return FeaturePair(queries, items, query_norms, _finite_norms("gallery", items, dtype))


def as_tensor(array: object) -> Tensor:
    """The numbers of a tensor or an array as a tensor without gradient, sharing memory wherever torch can.

    Raises:
        ReidError: if it is neither, or does not hold real numbers of at most 64 bits.
    """
    if isinstance(array, Tensor):
        return array.detach()
    if not isinstance(array, np.ndarray):
        raise ReidError(f"the matrix must be a tensor or an array, got a {type(array).__name__}; use numpy.asarray")
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise ReidError(
            f"the matrix must hold real numbers of at most 64 bits, got {array.dtype}; convert it first: "
            "array.astype(float)"
        )
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
    array = isinstance(features, np.ndarray) and features.dtype.kind == "f" and features.dtype.itemsize <= 8
    matrix = as_tensor(features) if array or isinstance(features, Tensor) else None
    if matrix is None or not matrix.is_floating_point() or matrix.ndim != 2:
        found = f"{tuple(features.shape)} {features.dtype}" if hasattr(features, "dtype") else type(features)
        raise ReidError(
            f"{name} must be an (N, D) tensor or array of floating point of at most 64 bits, got {found}; "
            "pass one feature per row"
        )
    check_not_empty(name, len(matrix))
    return matrix


def _finite_norms(name: str, features: Tensor, dtype: torch.dtype) -> Tensor:
    # Chunk by chunk, since torch widens all it is given before it reduces.
    chunks = torch.split(features, max(1, _ELEMENTS_PER_CHUNK // max(1, features.shape[1])))
    norms = torch.cat([torch.linalg.vector_norm(chunk, dim=1, dtype=dtype) for chunk in chunks])
    undefined = torch.isfinite(norms).logical_not()
    if undefined.any():
        row = int(undefined.int().argmax())
        raise ReidError(
            f"{name} must be finite and of finite norm, got the norm {float(norms[row])} in row {row} "
            f"({int(undefined.sum())} such rows); look for NaN in the weights or for a diverged training"
        )
    return norms
