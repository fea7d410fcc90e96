"""A gallery of tracks instead of images: one mean embedding each, and the crop that is most like it."""

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from datasets.readers.market import Names, labels_of
from inference.gallery.store import Embeddings
from utils import blocks
from utils.group_means import group_means

_COPIES = 4  # of its vectors in memory, while a block of tracks is averaged


class TrackMeans(NamedTuple):
    """Some tracks.

    Attributes:
        vectors: (T, D) float32, the means of their images, which are taken as they are, before normalization.
        rows: (T,) int64, the image of each track that is nearest to the mean by cosine.
    """

    vectors: NDArray[np.float32]
    rows: NDArray[np.int64]


def track_means(images: Embeddings) -> Iterator[TrackMeans]:
    """Average the embeddings of each track: images of one folder whose names tell one identity and one camera.

    Images without an identity (distractors, 0000) stay single. Blocks of whole tracks fit the memory budget.

    Args:
        images: N images; the vectors may be a memory map.
    """
    order, bounds = _tracks_of(images.paths)
    longest = max(1, blocks.MEMORY_BUDGET // (_COPIES * 4 * images.vectors.shape[1]))
    first = 0
    while first < len(bounds) - 1:
        last = max(first + 1, int(np.searchsorted(bounds, bounds[first] + longest, side="right")) - 1)
        rows = order[bounds[first] : bounds[last]]
        lengths = np.diff(bounds[first : last + 1])
        member = np.repeat(np.arange(len(lengths)), lengths)
        vectors, groups = torch.from_numpy(images.vectors[rows]), torch.from_numpy(member)
        means = group_means(vectors, groups, len(lengths)).means
        likeness = (F.normalize(vectors) * F.normalize(means)[groups]).sum(1).numpy()
        best = np.lexsort((-likeness, member))[np.cumsum(lengths) - lengths]
        yield TrackMeans(means.numpy(), rows[best])
        first = last


def _tracks_of(paths: Names) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) images by track, and (T + 1,) where the tracks begin in this order, with N at the end."""
    person_ids, camera_ids = labels_of(paths)
    numbers: dict[str, int] = {}
    folders = np.array([numbers.setdefault(os.path.dirname(path), len(numbers)) for path in map(str, paths[:])])  # noqa: PTH120 (a Path per image is slow)
    order = np.lexsort((camera_ids, person_ids, folders))
    begins = np.ones(len(order), bool)
    labels = np.stack([folders, person_ids, camera_ids])[:, order]
    begins[1:] = (np.diff(labels) != 0).any(axis=0) | (labels[1, 1:] <= 0)
    return order, np.append(np.flatnonzero(begins), len(order))
