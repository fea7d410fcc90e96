"""Several data sets joined for training, their identities and cameras kept apart."""

from collections.abc import Sequence
from dataclasses import replace

from datasets.sample import DISTRACTOR_ID, ReidSplits, Sample
from utils.errors import ReidError


def join_sources(parts: Sequence[ReidSplits]) -> ReidSplits:
    """Train on the first data set and on the training splits of the others.

    The first keeps its numbers, and its query and gallery are the test. Identities and cameras of every other
    source are numbered, in their own order, from one past the largest number so far; identity 0, a distractor,
    stays 0. So no two sources share a person or a camera, and none shares one with the test.

    Args:
        parts: one or more data sets, the first with its test.

    Returns:
        One data set named like ``market1501+cuhk03``.

    Raises:
        ReidError: if an image belongs to two sources.
    """
    first, *others = parts
    if not others:
        return first
    _refuse_shared_images(parts)
    test = (*first.query, *first.gallery)
    train = list(first.train)
    person = max((sample.person_id for sample in (*train, *test)), default=0)
    camera = max((sample.camera_id for sample in (*train, *test)), default=0)
    for other in others:
        people = {s.person_id for s in other.train if s.person_id > DISTRACTOR_ID}
        person_of = {old: new for new, old in enumerate(sorted(people), start=person + 1)}
        cameras = sorted({s.camera_id for s in other.train})
        camera_of = {old: new for new, old in enumerate(cameras, start=camera + 1)}
        train += [
            Sample(s.path, person_of.get(s.person_id, s.person_id), camera_of[s.camera_id]) for s in other.train
        ]
        person, camera = person + len(person_of), camera + len(camera_of)
    return replace(
        first,
        name="+".join(part.name for part in parts),
        train=tuple(train),
        folders=tuple(dict.fromkeys(folder for part in parts for folder in part.folders)),
    )


def _refuse_shared_images(parts: Sequence[ReidSplits]) -> None:
    owner = {s.path: parts[0].name for s in (*parts[0].train, *parts[0].query, *parts[0].gallery)}
    for part in parts[1:]:
        if shared := [s.path for s in part.train if s.path in owner]:
            raise ReidError(
                f"the data sets of DATASETS.NAMES must have no image in common, but {part.name} has {len(shared)} of "
                f"{owner[shared[0]]}, e.g. {shared[0]}; name each data set once"
            )
        owner.update((s.path, part.name) for s in part.train)
