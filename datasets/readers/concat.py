"""Several data sets as one to train on, without shared identities or cameras."""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from datasets.sample import DISTRACTOR_ID, ReidSplits, Sample
from utils.errors import ReidError


def concat_datasets(parts: Sequence[ReidSplits]) -> ReidSplits:
    """Train on the first data set and on the training splits of the others.

    The first data set keeps its numbers, and its query and gallery are the test. The identities and cameras of every
    other data set get new numbers, in their own order, after the largest number so far; identity 0, a distractor,
    stays 0. So no two data sets share a person or a camera, and none shares one with the test.

    Args:
        parts: one or more data sets, the first with its test.

    Returns:
        One data set named like ``market1501+cuhk03``.

    Raises:
        ReidError: if an image belongs to two data sets, however its folder is spelled.
    """
    first, *others = parts
    if not others:
        return first
    _refuse_shared_images(parts)
    train = list(first.train)
    person = max((sample.person_id for sample in (*train, *first.test)), default=0)
    camera = max((sample.camera_id for sample in (*train, *first.test)), default=0)
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
    true_folder = cache(os.path.realpath)  # each folder is resolved once

    def true_path(sample: Sample) -> str:
        folder, name = os.path.split(sample.path)
        return f"{true_folder(folder)}/{name}"

    first = parts[0]
    owner = {true_path(sample): first.name for sample in (*first.train, *first.test)}
    for part in parts[1:]:
        paths = [true_path(sample) for sample in part.train]
        if shared := [row for row, path in enumerate(paths) if path in owner]:
            raise ReidError(
                f"the data sets of DATASETS.NAMES must have no image in common, but {part.name} has {len(shared)} of "
                f"{owner[paths[shared[0]]]}, e.g. {part.train[shared[0]].path}; name each data set once"
            )
        owner.update(dict.fromkeys(paths, part.name))
