"""Query and gallery of an evaluation: features, identities and cameras, checked once."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from evaluation.retrieval.scores import Pairs, SameIdentity
from utils.blocks import rows_per_chunk
from utils.errors import ReidError

_LARGEST_LABEL = 2**63 - 1  # of int64

FeatureArray = Tensor | np.ndarray
Labels = Tensor | np.ndarray | Sequence[int]


class LabeledImage(Protocol):
    """What an evaluation and its pictures need to know about an image."""

    @property
    def path(self) -> Path:
        """The image file."""

    @property
    def person_id(self) -> int:
        """The identity; 0 = distractor."""

    @property
    def camera_id(self) -> int:
        """The camera."""


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Query and gallery on the gallery's device; :meth:`of` checks them.

    Attributes:
        query: (Q, D) in the dtype of the distances, float32 at least.
        gallery: (G, D) in the caller's dtype, which may be half precision; it is never copied.
        query_norms: (Q,) L2 norms, finite, in the dtype of ``query``.
        gallery_norms: (G,) L2 norms, finite, in the dtype of ``query``.
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

    @classmethod
    def of(
        cls,
        query: FeatureArray,
        gallery: FeatureArray,
        query_ids: Labels,
        gallery_ids: Labels,
        query_cameras: Labels,
        gallery_cameras: Labels,
    ) -> "Retrieval":
        """Bring both sides to one device and refuse what cannot be ranked.

        Args:
            query: (Q, D) floating point, torch or numpy.
            gallery: (G, D) floating point; shared, not copied.
            query_ids: (Q,) positive integers.
            gallery_ids: (G,) integers; 0 is a distractor, which matches nothing.
            query_cameras: (Q,) integers.
            gallery_cameras: (G,) integers.

        Raises:
            ReidError: if a side is empty, not an (N, D) matrix of floats, or holds NaN or infinity; if the dimensions
                or lengths differ; if labels are not integers, a query id is not positive or a gallery id is negative.
        """
        query, gallery = _matrices(query, gallery)
        norms = _finite_norms("query", query, query.dtype), _finite_norms("gallery", gallery, query.dtype)
        labels = (
            _labels("query_ids", query_ids, len(query), smallest=1),
            _labels("gallery_ids", gallery_ids, len(gallery), smallest=0),
            _labels("query_cameras", query_cameras, len(query)),
            _labels("gallery_cameras", gallery_cameras, len(gallery)),
        )
        return cls(query, gallery, *norms, *(label.to(gallery.device) for label in labels))

    def pairs(self, camera_rule: bool) -> Pairs:
        """The gallery items of each query's person, which are its matches.

        Args:
            camera_rule: remove the items that the query's camera took.
        """

        def is_other_camera(rows: slice, positions: Tensor) -> Tensor:
            return self.gallery_cameras[positions] != self.query_cameras[rows, None]

        return Pairs(SameIdentity(self.query_ids, self.gallery_ids), is_other_camera if camera_rule else None)

    def select(self, rows: Sequence[int]) -> "Retrieval":
        """Only some of the queries, in the order of ``rows``, against the same gallery."""
        index = torch.as_tensor(rows, dtype=torch.int64, device=self.query.device)
        names = ("query", "query_norms", "query_ids", "query_cameras")
        return replace(self, **{name: getattr(self, name)[index] for name in names})

    def with_query(self, query: Tensor) -> "Retrieval":
        """The same people and cameras with other query features (Q, D), in the dtype of ``query``."""
        return replace(self, query=query, query_norms=torch.linalg.vector_norm(query, dim=1))

    def with_gallery(self, gallery: Tensor, gallery_ids: Tensor) -> "Retrieval":
        """The same queries against other items (N, D); their cameras are 0, because no single camera took them."""
        norms = torch.linalg.vector_norm(gallery, dim=1, dtype=self.query.dtype)
        cameras = torch.zeros_like(gallery_ids)
        return replace(self, gallery=gallery, gallery_norms=norms, gallery_ids=gallery_ids, gallery_cameras=cameras)


def check_features(query: FeatureArray, gallery: FeatureArray) -> tuple[Tensor, Tensor]:
    """Check features without labels; bring both sides to one device, without gradient.

    Args:
        query: (Q, D) floating point, torch or numpy.
        gallery: (G, D) floating point, torch or numpy; shared, not copied.

    Returns:
        As ``query`` and ``gallery`` of :class:`Retrieval`.

    Raises:
        ReidError: if a side is empty, not an (N, D) matrix of floats, or holds NaN or infinity; if the dimensions
            differ.
    """
    query, gallery = _matrices(query, gallery)
    _finite_norms("query", query, query.dtype)
    _finite_norms("gallery", gallery, query.dtype)
    return query, gallery


def check_count(name: str, value: int) -> None:
    """Refuse a count that is not an integer of 1 or more.

    Raises:
        ReidError: naming ``name``.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ReidError(f"{name} must be an integer of 1 or more, got {value!r}: raise it to 1 at least")


def as_tensor(array: object) -> Tensor:
    """The numbers of a tensor or an array as a tensor without gradient; it shares their memory where torch can.

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
        # A read-only memory map is fine, because nothing here writes into its inputs.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _matrices(query: FeatureArray, gallery: FeatureArray) -> tuple[Tensor, Tensor]:
    queries, items = _matrix("query", query), _matrix("gallery", gallery)
    if queries.shape[1] != items.shape[1]:
        raise ReidError(
            f"query and gallery must have features of one dimension, got {queries.shape[1]} and "
            f"{items.shape[1]}; embed both with one model"
        )
    dtype = torch.promote_types(torch.promote_types(queries.dtype, items.dtype), torch.float32)
    return queries.to(items.device, dtype), items


def _matrix(name: str, features: FeatureArray) -> Tensor:
    is_array = isinstance(features, np.ndarray) and features.dtype.kind == "f" and features.dtype.itemsize <= 8
    matrix = as_tensor(features) if is_array or isinstance(features, Tensor) else None
    if matrix is None or not matrix.is_floating_point() or matrix.ndim != 2:
        kind = f"{tuple(features.shape)} {features.dtype}" if hasattr(features, "dtype") else type(features)
        raise ReidError(
            f"{name} must be an (N, D) tensor or array of floating point of at most 64 bits, got {kind}; "
            "pass one feature per row"
        )
    if not len(matrix):
        raise ReidError(f"{name} must hold at least one row, got none; check its folder and its filters")
    return matrix


def _finite_norms(name: str, features: Tensor, dtype: torch.dtype) -> Tensor:
    # Chunk by chunk, because torch widens its whole input before it reduces it.
    chunks = torch.split(features, rows_per_chunk(features.shape[1]))
    norms = torch.cat([torch.linalg.vector_norm(chunk, dim=1, dtype=dtype) for chunk in chunks])
    undefined = torch.isfinite(norms).logical_not()
    if undefined.any():
        row = int(undefined.int().argmax())
        raise ReidError(
            f"{name} must be finite and of finite norm, got the norm {float(norms[row])} in row {row} "
            f"({int(undefined.sum())} such rows); look for NaN in the weights or for a diverged training"
        )
    return norms


def _labels(name: str, labels: Labels, length: int, smallest: int | None = None) -> Tensor:
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.shape != (length,):
        raise ReidError(
            f"{name} must have one entry per feature ({length},), got {array.shape}; pass labels and "
            f"features in the same order and number"
        )
    if array.dtype.kind not in "iu":
        raise ReidError(f"{name} must be integers, got {array.dtype}; number the labels first")
    if int(array.max()) > _LARGEST_LABEL:
        raise ReidError(f"{name} must be below 2**63, got {array.max()}; number the labels from 1")
    if smallest is not None and int(array.min()) < smallest:
        raise ReidError(
            f"{name} must be at least {smallest} (0 is a distractor, -1 junk), got {array.min()} in row "
            f"{int(array.argmin())}; leave junk out of both sides, distractors out of the query, and "
            f"number identities from 1"
        )
    return torch.from_numpy(array.astype(np.int64))
