"""How often the nearest gallery image shows the query's person, counted in two ways."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.readers.market import UNKNOWN_ID, labels_of
from evaluation.ranking import evaluate_ranking
from inference.gallery.store import Embeddings
from utils.errors import ReidError


@dataclass(frozen=True)
class Accuracy:
    """Two counts of one prediction per query.

    Attributes:
        num_queries: all.
        num_known: those whose names tell an identity.
        nearest: share of those whose nearest gallery image has their identity, pictures of their own camera
            counting too, as the original code counts; None where no name tells an identity.
        rank1: rank-1 as ``test.py`` reports it: without gallery images of the query's person and camera, over
            the queries that have a match left; None where there are none.
        num_valid: those queries.
        centroids: the gallery's rows are means of identities.
        reason: why ``rank1`` is None, and ``nearest`` where that is.
    """

    num_queries: int
    num_known: int
    nearest: float | None = None
    rank1: float | None = None
    num_valid: int = 0
    centroids: bool = False
    reason: str = ""

    def __str__(self) -> str:
        """Lines for the console."""
        if self.nearest is None:
            return f"accuracy: unknown, {self.reason}"
        of = f"{self.num_known} queries" if self.num_known == self.num_queries else (
            f"the {self.num_known} of {self.num_queries} queries whose names tell an identity"
        )  # fmt: skip
        over = (
            "nearest centroid" if self.centroids else "all gallery images (the original count: own camera included)"
        )
        lines = [f"accuracy, {over}: {self.nearest:.2%} of {of}"]
        if self.rank1 is None:
            lines.append(f"accuracy, camera-aware without junk: unknown, {self.reason}")
        else:
            lines.append(
                f"accuracy, camera-aware without junk (rank-1 of test.py): {self.rank1:.2%} of {self.num_valid} "
                "queries with a match from another camera"
            )
        return "\n".join(lines)


def count_accuracy(
    queries: Embeddings,
    gallery: Embeddings,
    nearest: NDArray[np.int64],
    *,
    centroids: bool = False,
) -> Accuracy:
    """Count the predictions.

    Args:
        queries: Q images, their identities and cameras in their names.
        gallery: N images, likewise, without junk.
        nearest: (Q,) positions of the predictions in the gallery.
        centroids: the gallery's rows are means over cameras, so that none can be left out.
    """
    query_ids, query_cameras = labels_of(queries.paths)
    gallery_ids, gallery_cameras = labels_of(gallery.paths)
    has_id = query_ids > 0
    num_known = int(has_id.sum())
    for side, ids in (("query", query_ids), ("gallery", gallery_ids)):
        if not (ids > 0).any():
            reason = f"since no {side} file's name tells an identity (as 0002_c1s1_000451_03.jpg does)"
            return Accuracy(len(queries), num_known, reason=reason)
    correct = float((gallery_ids[nearest] == query_ids)[has_id].mean())
    if centroids:
        reason = "since a centroid joins cameras; test.py counts them (TEST.PROTOCOLS \"['centroid']\")"
        return Accuracy(len(queries), num_known, correct, centroids=True, reason=reason)
    # An unknown identity matches nobody, like a distractor.
    ids = np.where(gallery_ids == UNKNOWN_ID, 0, gallery_ids)
    vectors = queries.vectors if has_id.all() else queries.vectors[has_id]
    try:
        ranking = evaluate_ranking(
            vectors, gallery.vectors, query_ids[has_id], ids, query_cameras[has_id], gallery_cameras,
        )  # fmt: skip
    except ReidError as error:
        return Accuracy(len(queries), num_known, correct, reason=str(error))
    return Accuracy(len(queries), num_known, correct, ranking.cmc[1], ranking.num_valid_queries)
