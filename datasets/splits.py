"""Checks of a data set before anything runs: errors for what cannot work, warnings for what surprises."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from datasets.sample import DISTRACTOR_ID, ReidSplits, Sample, identities
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
        ReidError: if there are fewer than P identities, or one stands in both train and test, or an image
            has no identity.
    """
    _refuse_nobody(splits.train, "training images", splits.name)
    counts = Counter(sample.person_id for sample in splits.train)
    if len(counts) < 2:
        raise ReidError(f"training needs 2 identities or more, but {splits.name} has {len(counts)} to train on")
    if len(counts) < per_batch:
        raise ReidError(
            f"SOLVER.IMS_PER_BATCH / DATALOADER.NUM_INSTANCE asks for {per_batch} identities in a batch, but "
            f"training on {splits.name} has {len(counts)}; set SOLVER.IMS_PER_BATCH to "
            f"{len(counts) * instances} or less"
        )
    refuse_shared_identities(splits)
    warnings = []
    single = sorted(person for person, count in counts.items() if count == 1)
    if single:
        warnings.append(
            f"{len(single)} of {len(counts)} training identities have a single image ({_some(single)}): "
            f"they give the triplet losses no real positive for K = {instances}"
        )
    return warnings


def refuse_shared_identities(splits: ReidSplits) -> None:
    """Check that no identity of the training stands in the test; a data set may lack either.

    Raises:
        ReidError: if one does.
    """
    trained, tested = ({s.person_id for s in part} for part in (splits.train, (*splits.query, *splits.gallery)))
    if shared := sorted((trained & tested) - {DISTRACTOR_ID}):
        raise ReidError(
            f"train and test of {splits.name} must have no identity in common, but {len(shared)} are in both "
            f"({_some(shared)}): the figures would be those of memorised people; remove them from one side"
        )


def check_test(splits: ReidSplits, *, camera_rule: bool) -> list[str]:
    """Check that the queries of a data set can find a match.

    Args:
        splits: the data set.
        camera_rule: whether gallery images of the query's own identity and camera are ignored; a data set
            without cameras has no such images, whatever is said here.

    Returns:
        Warnings, one sentence each.

    Raises:
        ReidError: if there are no queries or no gallery, no query has a match at all, or one has no identity.
    """
    if not splits.query or not splits.gallery:
        raise ReidError(
            f"a test needs query and gallery, but {splits.name} has {len(splits.query)} query and "
            f"{len(splits.gallery)} gallery images; add its folders, or set DATASETS.TEST_NAMES to another data set"
        )
    _refuse_nobody(splits.query, "queries", splits.name)
    camera_rule = camera_rule and splits.cameras
    cameras: dict[int, set[int]] = defaultdict(set)
    for sample in splits.gallery:
        cameras[sample.person_id].add(sample.camera_id)
    absent = [query for query in splits.query if query.person_id not in cameras]
    same = [query for query in splits.query if camera_rule and cameras.get(query.person_id) == {query.camera_id}]
    lost = len(absent) + len(same)
    if not lost:
        return []
    reasons, remedies = [], []
    if absent:
        reasons.append(f"{len(absent)} because the gallery lacks the identity (e.g. {_names(absent)})")
        remedies.append("check the split: query and gallery must number people alike and share them")
    if same:
        reasons.append(f"{len(same)} because only the query's own camera has it (e.g. {_names(same)})")
        remedies.append(
            "give the gallery images of other cameras, or for data of one camera set TEST.CAMERA_RULE False"
        )
    message = (
        f"{lost} of {len(splits.query)} queries of {splits.name} have no match in the gallery: "
        + ", and ".join(reasons)
    )
    if lost < len(splits.query):
        return [f"{message}; they are not counted ({'; '.join(remedies)})"]
    found = f"query identities {_some(identities(splits.query))}; gallery identities {_some(sorted(cameras))}"
    raise ReidError(f"{message}; {found}; {'; '.join(remedies)}")


def _refuse_nobody(samples: Sequence[Sample], what: str, name: str) -> None:
    if nobody := [sample for sample in samples if sample.person_id <= DISTRACTOR_ID]:
        raise ReidError(
            f"{what} must have an identity from 1 on, but {len(nobody)} of {name} have not (e.g. "
            f"{_names(nobody)}): 0 means a distractor; number people from 1"
        )


def _some(values: Sequence[int]) -> str:
    return ", ".join(str(value) for value in values[:3]) + (", ..." if len(values) > 3 else "")


def _names(samples: Sequence[Sample]) -> str:
    return ", ".join("/".join(sample.path.parts[-2:]) for sample in samples[:3])
