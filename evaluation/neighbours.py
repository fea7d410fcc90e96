"""Exact nearest neighbours by cosine similarity, tile by tile, in bounded memory.

Shared by re-ranking and query expansion: neither ever needs a whole matrix of similarities, only the few
best entries of each row.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from utils.errors import ReidError

Features = Tensor | NDArray[Any]

DEFAULT_MEMORY_BUDGET = 512 * 2**20  # bytes

_SMALLEST_TILE, _LARGEST_TILE = 64, 4096  # larger tiles gain nothing more
_BYTES_PER_PAIR = 40  # a tile, its transpose, and the sort of all of it when everything is tied, in float64
_SMALLEST_NORM = 1e-12


class Neighbours(NamedTuple):
    """The k most similar items of each of N rows, best first; equal ones in the order of their index.

    Attributes:
        similarities: (N, k) floating point, cosine similarities.
        indices: (N, k) int64, positions among the items.
        lowest: (N,) floating point, similarity of the least similar of all items.
    """

    similarities: Tensor
    indices: Tensor
    lowest: Tensor


def check_features(query: Features, gallery: Features) -> tuple[Tensor, Tensor]:
    """Both sets of features as tensors (a writable C-ordered array is shared, not copied).

    Args:
        query: (Q, D) floating point tensor or array.
        gallery: (G, D) floating point tensor or array.

    Returns:
        The two tensors, detached from any graph, in their own dtype and on their own device.

    Raises:
        ReidError: if one is no matrix of finite floating point numbers, is empty, or if the two differ in
            their number of columns or in their device.
    """
    query, gallery = _check_matrix("query", query), _check_matrix("gallery", gallery)
    if query.shape[1] != gallery.shape[1]:
        raise ReidError(
            "query and gallery must have the same number of columns, got "
            f"{tuple(query.shape)} and {tuple(gallery.shape)}: embed both with the same model"
        )
    if query.device != gallery.device:
        raise ReidError(
            f"query and gallery must be on one device, got {query.device} and {gallery.device}: move one"
        )
    _check_finite("query", query)
    _check_finite("gallery", gallery)
    return query, gallery


def check_count(name: str, value: int) -> None:
    """Refuse a count that is no integer of 1 or more.

    Raises:
        ReidError: naming ``name``.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ReidError(f"{name} must be an integer of 1 or more, got {value!r}: raise it to 1 at least")


def normalised(*parts: Tensor) -> Tensor:
    """All rows of ``parts`` one below the other, scaled to length 1; a row of zeros stays as it is.

    In float32, or in float64 if any part is float64.
    """
    dtype = torch.float64 if any(part.dtype == torch.float64 for part in parts) else torch.float32
    shape = (sum(len(part) for part in parts), parts[0].shape[1])
    rows = torch.empty(shape, dtype=dtype, device=parts[0].device)
    for target, part in zip(torch.split(rows, [len(part) for part in parts]), parts, strict=True):
        target.copy_(part)
    return rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min_(_SMALLEST_NORM))


def full_precision(features: Tensor) -> torch.autocast:
    """A context without autocast: in bf16 the neighbours would change places."""
    return torch.autocast(device_type=features.device.type, enabled=False)


def similarities(left: Tensor, right: Tensor) -> Tensor:
    """(N, M) scalar products of all rows, in full precision."""
    with full_precision(left):
        return left @ right.T


def nearest(left: Tensor, right: Tensor, k: int, memory_budget: int) -> Neighbours:
    """The ``k`` most similar rows of ``right`` (M, D) for each row of ``left`` (N, D), both normalised.

    Args:
        left: (N, D) rows of length 1.
        right: (M, D) rows of length 1, with M >= k.
        k: neighbours to keep for each row.
        memory_budget: bytes of working memory beside the features and the result.
    """
    found = _nothing_yet(left, k)
    tiles = _tiles(len(right), memory_budget)
    for rows in _tiles(len(left), memory_budget):
        for columns in tiles:
            _absorb(found, rows, similarities(left[rows], right[columns]), columns.start)
    return found


def nearest_among(features: Tensor, k: int, memory_budget: int) -> Neighbours:
    """The ``k`` most similar rows of the same set for each row; each row comes first in its own list.

    The matrix is symmetric, so each tile above the diagonal serves its rows and its columns: half the
    multiplications of :func:`nearest`.

    Args:
        features: (N, D) rows of length 1, with N >= k.
        k: neighbours to keep for each row, itself included.
        memory_budget: bytes of working memory beside the features and the result.
    """
    found = _nothing_yet(features, k)
    tiles = _tiles(len(features), memory_budget)
    for number, rows in enumerate(tiles):
        for columns in tiles[number:]:
            tile = similarities(features[rows], features[columns])
            if rows is columns:
                # A copy with a lower index must not push an item out of its own list.
                tile.fill_diagonal_(torch.inf)
            else:
                _absorb(found, columns, tile.T, rows.start)
            _absorb(found, rows, tile, columns.start)
    found.similarities[:, 0] = 1.0
    return found


def blocks(total: int, bytes_each: int, memory_budget: int) -> list[slice]:
    """``range(total)`` cut into slices whose items, at ``bytes_each`` bytes, fit the budget."""
    size = max(1, memory_budget // bytes_each)
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]


def _check_matrix(name: str, features: Features) -> Tensor:
    if isinstance(features, np.ndarray) and np.issubdtype(features.dtype, np.floating):
        # torch shares memory with writable C-ordered arrays only, and warns of the rest.
        features = torch.from_numpy(np.require(features, requirements=["C", "W"]))
    if not isinstance(features, Tensor) or not features.is_floating_point() or features.ndim != 2:
        shape = (
            f"{tuple(features.shape)} of {features.dtype}" if hasattr(features, "shape") else repr(features)
        )
        raise ReidError(
            f"{name} must be a floating point matrix (items, dimensions), got {shape}: one row for each image"
        )
    if 0 in features.shape:
        raise ReidError(
            f"{name} must have rows and columns, got {tuple(features.shape)}: is the folder empty?"
        )
    return features.detach()


def _check_finite(name: str, features: Tensor) -> None:
    dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
    bad = (~torch.linalg.vector_norm(features, dim=1, dtype=dtype).isfinite()).nonzero()[:, 0]
    if len(bad):
        raise ReidError(
            f"{name} must be finite, got NaN, infinite or huge values in {len(bad)} of {len(features)} "
            f"rows, first in row {int(bad[0])}: look for a diverged training or a broken image"
        )


def _tiles(total: int, memory_budget: int) -> list[slice]:
    side = int((memory_budget / _BYTES_PER_PAIR) ** 0.5)
    return blocks(total, 1, min(max(side, _SMALLEST_TILE), _LARGEST_TILE))


def _nothing_yet(features: Tensor, k: int) -> Neighbours:
    shape = (len(features), k)
    return Neighbours(
        features.new_full(shape, -torch.inf),
        torch.zeros(shape, dtype=torch.int64, device=features.device),
        features.new_full(shape[:1], torch.inf),
    )


def _absorb(found: Neighbours, rows: slice, tile: Tensor, offset: int) -> None:
    """Merge a tile, whose first column is item ``offset``; tiles of a row come from left to right."""
    k = found.indices.shape[1]
    values, indices = _top(tile, k)
    values = torch.cat([found.similarities[rows], values], dim=1)
    indices = torch.cat([found.indices[rows], indices + offset], dim=1)
    # The items found so far have the lower indices, so a stable sort keeps ties in the order of index.
    values, order = values.sort(dim=1, descending=True, stable=True)
    found.similarities[rows] = values[:, :k]
    found.indices[rows] = indices.gather(1, order[:, :k])
    found.lowest[rows] = torch.minimum(found.lowest[rows], tile.amin(dim=1))


def _top(tile: Tensor, k: int) -> tuple[Tensor, Tensor]:
    # topk leaves the order of ties open. Rows with a tie in reach are rare, and are sorted in full.
    values, columns = tile.topk(min(k + 1, tile.shape[1]), dim=1)
    tied = (values[:, 1:] == values[:, :-1]).any(dim=1).nonzero()[:, 0]
    if len(tied):
        exact_values, exact_columns = tile[tied].sort(dim=1, descending=True, stable=True)
        values[tied] = exact_values[:, : values.shape[1]]
        columns[tied] = exact_columns[:, : values.shape[1]]
    return values[:, :k], columns[:, :k]
