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
    rows = ((person_ids != JUNK_ID) & (person_ids != AMBIGUOUS_ID)).nonzero().flatten()
    if not len(rows):
        raise ReidError("person_ids must hold an identity, got junk only; give the gallery's own images")
    ids = person_ids[rows].long()
    single, of_people = rows[ids == DISTRACTOR_ID], rows[ids != DISTRACTOR_ID]
    people, member = torch.unique(person_ids[of_people].long(), return_inverse=True)
    means = group_means(vectors[of_people].float(), member, len(people)).means
    first = torch.full_like(people, len(person_ids)).scatter_reduce(0, member, of_people, "amin")
    return GalleryCentroids(
        torch.cat([vectors[single].float(), means]),
        torch.cat([torch.zeros_like(single), people]),
        torch.cat([single, first]),
    )
