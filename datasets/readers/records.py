"""Records of a user's own images, whose identity is a text and whose camera and split are optional."""

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from datasets.sample import DISTRACTOR_ID, NoTrainingImagesError, ReidSplits, Sample
from utils.errors import ReidError

logger = logging.getLogger(__name__)

_SPECIAL_IN_MARKET = ("-1", "-2", "0000")
NOBODY = ""  # the identity of a distractor
UNDECIDED = ""  # the image gets a random split
TRAIN, QUERY, GALLERY, TEST = "train", "query", "gallery", "test"
SPLITS = (TRAIN, QUERY, GALLERY, TEST)


class ImageRecord(NamedTuple):
    """One image with its owner's labels.

    Attributes:
        path: absolute, without ``..``.
        person: any text; :data:`NOBODY` = a distractor of the gallery.
        camera: a number, or None for all images of a data set without cameras.
        split: one of :data:`SPLITS` or :data:`UNDECIDED`. ``test`` is the gallery beside a ``query`` split,
            and otherwise becomes query and gallery at random.
    """

    path: str
    person: str
    camera: int | None
    split: str


def root_of(folder: Path) -> str:
    """A folder as a prefix of the paths of its images: absolute, without ``..``; links stay."""
    return os.path.abspath(folder).replace(os.sep, "/")  # noqa: PTH100 (resolve() would go to where a link points)


def number_identities(name: str, images: Iterable[ImageRecord], folder: Path, *, with_train: bool) -> ReidSplits:
    """Number the identities from 1 in the sorted order of their texts; the same text is the same person.

    Args:
        name: of the data set.
        images: of all splits; none is undecided.
        folder: the data set's root.
        with_train: False leaves the training split empty; the numbering stays the same.

    Raises:
        ReidError: if a split has no image (NoTrainingImagesError for the training split).
    """
    ordered = sorted(images)  # by path, which is unique
    people = sorted({image.person for image in ordered} - {NOBODY})
    if special := [person for person in people if person in _SPECIAL_IN_MARKET]:
        logger.warning(
            "%s in %s are people like any other, not junk or distractors as in Market-1501's file names: leave junk "
            "out, and let distractors have an empty person_id in a CSV file",
            *(", ".join(special), name),
        )
    number = {person: i for i, person in enumerate(people, start=1)} | {NOBODY: DISTRACTOR_ID}
    parts: dict[str, list[Sample]] = {TRAIN: [], QUERY: [], GALLERY: []}
    folders: dict[str, Path] = {}  # joining a name to a Path is faster than parsing a whole path
    for path, person, camera, split in ordered:
        if split != TRAIN or with_train:
            at, _, file = path.rpartition("/")
            parent = folders.get(at) or folders.setdefault(at, Path(at or "/"))
            parts[GALLERY if split == TEST else split].append(Sample(parent / file, number[person], camera or 0))
    for part, samples in parts.items():
        if not samples and (part != TRAIN or with_train):
            kind = NoTrainingImagesError if part == TRAIN else ReidError
            raise kind(f"the {part} split of {name} must hold images, but has none in {folder}; add some")
    root = root_of(folder)
    below = all(path.startswith(f"{root}/") for path, *_ in ordered)
    cameras = all(image.camera is not None for image in ordered)
    return ReidSplits(
        name, tuple(parts[TRAIN]), tuple(parts[QUERY]), tuple(parts[GALLERY]), (Path(root),) if below else (), cameras
    )
