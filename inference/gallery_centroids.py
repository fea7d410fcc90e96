"""A gallery of identities instead of images: one mean embedding each."""

from typing import NamedTuple

import torch
from torch import Tensor

from datasets.sample import AMBIGUOUS_ID, DISTRACTOR_ID, JUNK_ID
from utils.errors import ReidError
from utils.group_means import group_means


class GalleryCentroids(NamedTuple):
    """A gallery of identities; distractors come first, one row each.

    Attributes:
        vectors: (M, D) float32.
        person_ids: (M,) int64 in ascending order; 0 = distractor.
        first_rows: (M,) int64, the first row of the input that went into each: where its path is.
    """

    vectors: Tensor
    person_ids: Tensor
    first_rows: Tensor


def gallery_centroids(vectors: Tensor, person_ids: Tensor) -> GalleryCentroids:
    """Average the embeddings of each identity; distractors stay single, junk leaves.

    Embeddings are averaged as they are given: before normalisation, as the centroid protocol does.

    Args:
        vectors: (N, D) floating point.
        person_ids: (N,) integers; 0 = distractor (not one person), -1 and -2 = junk.

    Raises:
        ReidError: if nothing but junk is given, or the lengths differ.
    """
    if len(vectors) != len(person_ids):
        raise ReidError(
            f"person_ids must name each of the {len(vectors)} vectors, got {len(person_ids)}; one per row"
        )
    ids = person_ids.long()
    distractor = ids == DISTRACTOR_ID
    of_people = ~(distractor | (ids == JUNK_ID) | (ids == AMBIGUOUS_ID))
    single, rows = distractor.nonzero().flatten(), of_people.nonzero().flatten()
    if not len(single) + len(rows):
        raise ReidError("person_ids must hold an identity, got junk only; give the gallery's own images")
    people, member = torch.unique(ids[rows], return_inverse=True)
    groups = torch.zeros_like(ids).index_copy_(0, rows, member)
    # Masked, not selected: a selection would copy the vectors, which may be a file larger than the memory.
    means = group_means(vectors, groups, max(1, len(people)), of_people).means[: len(people)]
    first = torch.full_like(people, len(ids)).scatter_reduce(0, member, rows, "amin")
    return GalleryCentroids(
        torch.cat([vectors[single].float(), means.float()]),
        torch.cat([torch.zeros_like(single), people]),
        torch.cat([single, first]),
    )
