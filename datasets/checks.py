"""Checks of a data set before anything runs: errors for what cannot work, warnings for what may surprise."""

import hashlib
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

from datasets.sample import DISTRACTOR_ID, ReidSplits, Sample, identities
from utils.errors import ReidError
from utils.images import read_image
from utils.processes import each

FEW = 10
"""A test of fewer queries or people measures next to nothing."""
_BATCH = 32  # images that a process takes at once: a hand-over takes as long as decoding a small image

logger = logging.getLogger(__name__)


def check_train(splits: ReidSplits, per_batch: int, instances: int) -> list[str]:
    """Check the training split against the P x K sampler.

    Args:
        splits: the data set.
        per_batch: P, identities in a batch.
        instances: K, images of one identity in a batch.

    Returns:
        Warnings, one sentence each.

    Raises:
        ReidError: if there are fewer than P identities, or if an image has no identity.
    """
    _refuse_distractors(splits.train, "training images", splits.name)
    counts = Counter(sample.person_id for sample in splits.train)
    if len(counts) < 2:
        raise ReidError(f"training needs 2 identities or more, but {splits.name} has {len(counts)} to train on")
    if len(counts) < per_batch:
        raise ReidError(
            f"SOLVER.IMS_PER_BATCH / DATALOADER.NUM_INSTANCE asks for {per_batch} identities in a batch, but "
            f"training on {splits.name} has {len(counts)}; set SOLVER.IMS_PER_BATCH to "
            f"{len(counts) * instances} or less"
        )
    warnings = []
    single = sorted(person for person, count in counts.items() if count == 1)
    if single:
        warnings.append(
            f"{len(single)} of {len(counts)} training identities have a single image ({_some(single)}): "
            f"they give the triplet losses no real positive for K = {instances}"
        )
    return warnings


def refuse_shared_identities(splits: ReidSplits) -> None:
    """Check that train and test share no identity; a data set may lack either.

    Raises:
        ReidError: if they share one.
    """
    train, test = ({sample.person_id for sample in part} for part in (splits.train, splits.test))
    if shared := sorted((train & test) - {DISTRACTOR_ID}):
        raise ReidError(
            f"train and test of {splits.name} must have no identity in common, but {len(shared)} are in both "
            f"({_some(shared)}): the figures would be those of memorized people; remove them from one side"
        )


def check_test(splits: ReidSplits, *, camera_rule: bool) -> list[str]:
    """Check that the queries of a data set can find a match.

    Args:
        splits: the data set.
        camera_rule: whether gallery images of the query's own identity and camera are ignored; a data set
            without cameras has no such images.

    Returns:
        Warnings, one sentence each.

    Raises:
        ReidError: if there are no queries or no gallery, if no query has a match, if a query has no identity, or if
            the gallery shows one person only.
    """
    if not splits.query or not splits.gallery:
        raise ReidError(
            f"a test needs query and gallery, but {splits.name} has {len(splits.query)} query and "
            f"{len(splits.gallery)} gallery images; add its folders, or set DATASETS.TEST_NAMES to another data set"
        )
    _refuse_distractors(splits.query, "queries", splits.name)
    camera_rule = camera_rule and splits.cameras
    cameras: dict[int, set[int]] = defaultdict(set)
    for sample in splits.gallery:
        cameras[sample.person_id].add(sample.camera_id)
    absent = [query for query in splits.query if query.person_id not in cameras]
    same = [query for query in splits.query if camera_rule and cameras.get(query.person_id) == {query.camera_id}]
    unmatched = len(absent) + len(same)
    if len(cameras) == 1 and unmatched < len(splits.query):
        raise ReidError(
            f"the gallery of {splits.name} must show two identities or more, but shows one ({min(cameras)}): any "
            "network would get 100 %; add images of others, or check what was read as an identity"
        )
    if not unmatched:
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
        f"{unmatched} of {len(splits.query)} queries of {splits.name} have no match in the gallery: "
        + ", and ".join(reasons)
    )
    if unmatched < len(splits.query):
        return [f"{message}; they are not counted ({'; '.join(remedies)})"]
    people = f"query identities {_some(identities(splits.query))}; gallery identities {_some(sorted(cameras))}"
    raise ReidError(f"{message}; {people}; {'; '.join(remedies)}")


def find_few(splits: ReidSplits) -> list[str]:
    """A warning if a test has so few queries or people that its figures say next to nothing; it names them."""
    queries = len(splits.query)
    people = len({sample.person_id for sample in splits.gallery} - {DISTRACTOR_ID})
    if min(queries, people) >= FEW:
        return []
    return [
        f"{splits.name} has {queries} queries and {people} identities in its gallery (e.g. {_names(splits.query)}): "
        f"figures from less than {FEW} of either say next to nothing about a network"
    ]


def find_copies(splits: ReidSplits) -> list[str]:
    """Find images that are the same file, to the byte, in query and gallery, or in training and test.

    Only files are read whose size occurs on both sides: a second or two for Market-1501.

    Returns:
        Warnings, one sentence each.
    """
    sizes = _sizes({sample.path.parent for sample in (*splits.train, *splits.test)})
    digests: dict[str, bytes] = {}
    warnings = []
    for name, one, other_name, other in (
        ("query", splits.query, "gallery", splits.gallery),
        ("training", splits.train, "test", splits.test),
    ):
        sides = [[(str(sample.path), sample) for sample in side] for side in (one, other)]
        common = {sizes.get(path, 0) for path, _ in sides[0]} & {sizes.get(path, 0) for path, _ in sides[1]} - {0}
        for path, _ in (*sides[0], *sides[1]):
            if sizes.get(path, 0) in common and path not in digests:
                digests[path] = _digest(path)
        copies = {digests[path]: sample for path, sample in sides[1] if path in digests}
        pairs = [(sample, copies[digests[path]]) for path, sample in sides[0] if digests.get(path) in copies]
        if pairs:
            warnings.append(
                f"{len(pairs)} of {len(one)} {name} images of {splits.name} are {other_name} images too, the same "
                f"files (e.g. {_names(pairs[0])}), which flatters every figure; remove them from one side"
            )
    return warnings


def _sizes(folders: Iterable[Path]) -> dict[str, int]:
    """The size of each file in bytes, by one listing of each folder."""
    sizes = {}
    for folder in folders:
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                with suppress(OSError):  # a link to nothing
                    sizes[str(folder / entry.name)] = entry.stat().st_size
    return sizes


def _digest(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (a Path per file is slow)
            return hashlib.blake2b(file.read()).digest()
    except OSError:  # reading it as an image will say so
        return os.fsencode(path)


def check_files(splits: ReidSplits, on_bad_file: Literal["error", "skip"], *, workers: int) -> ReidSplits:
    """Decode all images in parallel, to name damaged files before anything runs.

    Args:
        splits: the data set.
        on_bad_file: ``error`` raises an error with their names; ``skip`` leaves them out with a warning.
        workers: processes.

    Returns:
        The data set without the bad files.

    Raises:
        ReidError: if there are bad files and ``on_bad_file`` is ``error``, or a split has no good one.
    """
    paths = [sample.path for samples in splits.parts.values() for sample in samples]
    batches = [paths[i : i + _BATCH] for i in range(0, len(paths), _BATCH)]
    outcomes = each(_faults, batches, workers, "check images", "batch")
    faults = {path: fault for outcome in outcomes for path, fault in outcome.items()}
    if not faults:
        return splits
    examples = "; ".join(list(faults.values())[:3])
    message = f"{len(faults)} of {len(paths)} images of {splits.name} cannot be read: {examples}"
    if on_bad_file == "error":
        raise ReidError(f"{message}; repair or remove them, or set DATASETS.ON_BAD_FILE skip")
    logger.warning("%s; skipped", message)
    good = {part: tuple(s for s in samples if s.path not in faults) for part, samples in splits.parts.items()}
    for part, samples in splits.parts.items():
        if samples and not good[part]:
            raise ReidError(f"the {part} split of {splits.name} has no readable image left")
    return replace(splits, train=good["train"], query=good["query"], gallery=good["gallery"])


def _faults(paths: Sequence[Path]) -> dict[Path, str]:
    """The faults of those that cannot be read."""
    return {path: fault for path in paths if (fault := _fault(path))}


def _fault(path: Path) -> str:
    try:
        read_image(path)
    except ReidError as error:
        return str(error)
    return ""


def _refuse_distractors(samples: Sequence[Sample], what: str, name: str) -> None:
    if distractors := [sample for sample in samples if sample.person_id <= DISTRACTOR_ID]:
        raise ReidError(
            f"{what} must have an identity from 1 on, but {len(distractors)} of {name} do not (e.g. "
            f"{_names(distractors)}): 0 means a distractor; number people from 1"
        )


def _some(values: Sequence[int]) -> str:
    return ", ".join(str(value) for value in values[:3]) + (", ..." if len(values) > 3 else "")


def _names(samples: Sequence[Sample]) -> str:
    return ", ".join("/".join(sample.path.parts[-2:]) for sample in samples[:3])
