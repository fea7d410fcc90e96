"""Both centroid protocols as plain loops over queries and people, in float64."""

import numpy as np

from tests.reference.ranking import Case

Item = tuple[np.ndarray, bool]
Score = tuple[float, int]


def plain_scores(query: np.ndarray, items: list[Item]) -> Score:
    """AP and first rank among (vector, is_match) items; NaN and 0 without a match."""
    near = [-(query @ vector) / np.linalg.norm(query) / np.linalg.norm(vector) for vector, _ in items]
    ranks = [rank for rank, i in enumerate(np.argsort(near), start=1) if items[i][1]]
    if not ranks:
        return float("nan"), 0
    return sum(place / rank for place, rank in enumerate(ranks, start=1)) / len(ranks), ranks[0]


def plain_centroids(case: Case, camera_rule: bool) -> list[Score]:
    """Protocol ``centroid``: the query's camera is not in its own person's centroid; distractors stay items."""
    scores = []
    for vector, person, camera in zip(case.query, case.query_ids, case.query_cameras, strict=True):
        items: list[Item] = [(distractor, False) for distractor in case.gallery[case.gallery_ids == 0]]
        for other in set(case.gallery_ids.tolist()) - {0}:
            member = case.gallery_ids == other
            if other == person and camera_rule:
                member &= case.gallery_cameras != camera
            if member.any():
                items.append((case.gallery[member].mean(0), other == person))
        scores.append(plain_scores(vector, items))
    return scores


def plain_ctl2021(case: Case) -> list[Score]:
    """Protocol ``centroid_ctl2021``: cameras are read at the wrong position."""
    wrong = np.concatenate([case.query_cameras, case.gallery_cameras])[: len(case.gallery)]
    centroids = []
    for person in sorted(set(case.query_ids.tolist()) & set(case.gallery_ids.tolist())):
        used_before = set()
        for camera in sorted(set(case.query_cameras[case.query_ids == person].tolist())):
            member = (case.gallery_ids == person) & (wrong != camera)
            used = frozenset(wrong[member].tolist())
            if used and used not in used_before:
                used_before.add(used)
                centroids.append((person, used, case.gallery[member].mean(0)))
    scores = []
    for vector, person, camera in zip(case.query, case.query_ids, case.query_cameras, strict=True):
        items = [(c, other == person) for other, used, c in centroids if other != person or camera not in used]
        scores.append(plain_scores(vector, items))
    return scores
