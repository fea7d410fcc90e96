"""Checks of a data set before anything runs: errors for what cannot work, warnings for what surprises."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from datasets.sample import DISTRACTOR_ID, ReidSplits, Sample
from utils.errors import ReidError


def check_train(splits: ReidSplits, per_batch: int, instances: int) -> list[str]:
    """Check the training split against the P x K sampler and the test identities.

    Args:
        splits: the data set.
        per_batch: P, identities in a batch.
        instances: K, images of one identity in a batch.

    Returns:
        Warnings, one sentence each.

    Raises:
        ReidError: if there are fewer than P identities, or one stands in both train and test.
    """
    counts = Counter(sample.person_id for sample in splits.train)
    if len(counts) < per_batch:
        raise ReidError(
            f"SOLVER.IMS_PER_BATCH / DATALOADER.NUM_INSTANCE asks for {per_batch} identities in a batch, but "
            f"training on {splits.name} has {len(counts)}; set SOLVER.IMS_PER_BATCH to "
            f"{len(counts) * instances} or less"
        )
    shared = sorted(set(counts) & {s.person_id for s in (*splits.query, *splits.gallery)})
    if shared:
        raise ReidError(
            f"train and test of {splits.name} must have no identity in common, but {len(shared)} are in both "
            f"({_some(shared)}): the figures would be those of memorised people; remove them from one side"
        )
    warnings = []
    single = sorted(person for person, count in counts.items() if count == 1)
    if single:
        warnings.append(
            f"{len(single)} of {len(counts)} training identities have a single image ({_some(single)}): "
            f"they give the triplet losses no real positive for K = {instances}"
        )
    return warnings


def check_test(splits: ReidSplits, *, camera_rule: bool) -> list[str]:
    """Check that the queries of a data set can find a match.

    Args:
        splits: the data set.
        camera_rule: whether gallery images of the query's own identity and camera are ignored.

    Returns:
        Warnings, one sentence each.

    Raises:
        ReidError: if no query has a match at all, or one has no identity.
    """
    nobody = [query for query in splits.query if query.person_id <= DISTRACTOR_ID]
    if nobody:
        raise ReidError(
            f"queries must have an identity from 1 on, but {len(nobody)} of {splits.name} have not (e.g. "
            f"{_names(nobody)}): 0 means a distractor; number people from 1"
        )
    cameras: dict[int, set[int]] = defaultdict(set)
    for sample in splits.gallery:
        cameras[sample.person_id].add(sample.camera_id)
    absent = [query for query in splits.query if query.person_id not in cameras]
    same = [
        query
        for query in splits.query
        if camera_rule and query.person_id in cameras and cameras[query.person_id] == {query.camera_id}
    ]
    lost = len(absent) + len(same)
    if not lost:
        return []
    reasons = [
        f"{len(queries)} because {reason} (e.g. {_names(queries)})"
        for queries, reason in (
            (absent, "the gallery lacks the identity"),
            (same, "only the query's own camera has it"),
        )
        if queries
    ]
    message = (
        f"{lost} of {len(splits.query)} queries of {splits.name} have no match in the gallery: "
        + ", and ".join(reasons)
    )
    if lost == len(splits.query):
        remedy = "; for data of one camera set TEST.CAMERA_RULE False" if same else "; check the split"
        raise ReidError(message + remedy)
    return [message + "; they are not counted"]


def _some(values: Sequence[int]) -> str:
    return ", ".join(str(value) for value in values[:3]) + (", ..." if len(values) > 3 else "")


def _names(samples: Sequence[Sample]) -> str:
    return ", ".join(sample.path.name for sample in samples[:3])
