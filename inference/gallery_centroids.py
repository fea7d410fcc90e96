"""A gallery of identities instead of images: one mean embedding each."""

import torch
from torch import Tensor

from datasets.sample import AMBIGUOUS_ID, DISTRACTOR_ID, JUNK_ID
from utils.errors import ReidError
from utils.group_means import group_means


def gallery_centroids(vectors: Tensor, person_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Average the embeddings of each identity; distractors stay single, junk leaves.

    Embeddings are averaged as they are given: before normalisation, as the centroid protocol does.

    Args:
        vectors: (N, D) floating point.
        person_ids: (N,) integers; 0 = distractor (not one person), -1 and -2 = junk.

    Returns:
        (M, D) float32 and (M,) int64 identities in ascending order, so that distractors come first.

    Raises:
        ReidError: if nothing but junk is given, or the lengths differ.
    """
    if len(vectors) != len(person_ids):
        raise ReidError(
            f"person_ids must name each of the {len(vectors)} vectors, got {len(person_ids)}; one per row"
        )
    kept = (person_ids != JUNK_ID) & (person_ids != AMBIGUOUS_ID)
    vectors, person_ids = vectors[kept], person_ids[kept].long()
    if not len(vectors):
        raise ReidError("person_ids must hold an identity, got junk only; give the gallery's own images")
    single = vectors[person_ids == DISTRACTOR_ID].float()
    of_people = person_ids != DISTRACTOR_ID
    people, member = torch.unique(person_ids[of_people], return_inverse=True)
    means = group_means(vectors[of_people], member, len(people)).means
    zeros = torch.zeros(len(single), dtype=people.dtype, device=people.device)
    return torch.cat([single, means]), torch.cat([zeros, people])
