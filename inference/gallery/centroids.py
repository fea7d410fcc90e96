"""A gallery of identities instead of images: one mean embedding each."""

from pathlib import Path

import numpy as np
import torch

from datasets.readers.market import UNKNOWN_ID, labels_of
from datasets.sample import AMBIGUOUS_ID, DISTRACTOR_ID, JUNK_ID
from evaluation.retrieval.inputs import as_tensor
from inference.gallery.store import Embeddings
from inference.image_paths import ImagePaths
from utils.errors import ReidError
from utils.group_means import group_means


def check_identities(paths: ImagePaths, option: str = "MODEL.USE_CENTROIDS True") -> None:
    """Refuse images whose names do not tell who is who.

    Args:
        paths: of the images.
        option: that needs the identities, for the message.

    Raises:
        ReidError: if a file name tells no identity.
    """
    unknown = np.flatnonzero(labels_of(paths)[0] == UNKNOWN_ID)
    if len(unknown):
        first = paths[int(unknown[0])]
        raise ReidError(
            f"{option} needs the identity in each file name, like 0002_c1s1_000451_03.jpg, "
            f"but {len(unknown)} of {len(paths)} have none: {Path(first).name}; rename or remove them"
        )


def centroid_embeddings(images: Embeddings) -> Embeddings:
    """Average the embeddings of each identity as the file names tell it; distractors stay single, junk leaves.

    Embeddings are averaged as they are: before normalization, as the centroid protocol does.

    Args:
        images: N images.

    Returns:
        Distractors, then identities in ascending order, each with the path of its first image.

    Raises:
        ReidError: if there is nothing but junk.
    """
    vectors, ids = as_tensor(images.vectors), torch.from_numpy(labels_of(images.paths)[0])
    distractor = ids == DISTRACTOR_ID
    of_people = ~(distractor | (ids == JUNK_ID) | (ids == AMBIGUOUS_ID))
    single, rows = distractor.nonzero().flatten(), of_people.nonzero().flatten()
    if not len(single) + len(rows):
        raise ReidError("the images must show an identity, got junk only; give the gallery's own images")
    people, member = torch.unique(ids[rows], return_inverse=True)
    groups = torch.zeros_like(ids).index_copy_(0, rows, member)
    # Masked, not selected: a selection would copy the vectors, which may be a file larger than the memory.
    means = group_means(vectors, groups, max(1, len(people)), of_people).means[: len(people)]
    first = torch.full_like(people, len(ids)).scatter_reduce(0, member, rows, "amin")
    return Embeddings(
        torch.cat([vectors[single].float(), means.float()]).numpy(),
        np.array(images.paths[torch.cat([single, first]).numpy()]),
    )
