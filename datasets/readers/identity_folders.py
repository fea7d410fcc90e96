"""A user's own data set with one folder per identity."""

import logging
import os
import re
from collections import Counter
from collections.abc import Sequence, Set
from pathlib import Path
from typing import NamedTuple

from datasets.readers.market import MarketLayout, labels_in
from datasets.readers.records import NOBODY, SPLITS, UNDECIDED, ImageRecord, root_of
from datasets.sample import AMBIGUOUS_ID, DISTRACTOR_ID, JUNK_ID
from utils.errors import ReidError
from utils.files import folders_of
from utils.images import is_image, other_ending, warn_left_out

logger = logging.getLogger(__name__)

_MARKET_NAME = re.compile(MarketLayout().pattern)
_FEW = 10  # fewer identities are hardly a data set
_PLACE = re.compile(r"(c|ch|cams?|cameras?|channel|view|site|zone|room|floor|gate|door|entrance)[ _-]?\d+", re.I)
_FORMS = (
    "a data set is a folder in Market-1501 layout (bounding_box_train, query, bounding_box_test), "
    "one folder per identity (train/ID/*.jpg, or ID/*.jpg directly), or a CSV file"
)


def identity_folder_images(folder: Path) -> list[ImageRecord]:
    """The images of a folder whose sub-folders are identities.

    If the folder has any of ``train``, ``query``, ``gallery`` and ``test`` (in upper or lower case), the identities
    lie in these, and other folders are left out. Otherwise each sub-folder is an identity, and the split is
    undecided. Folders within the folder of an identity are left out too. Warnings name what is left out. Folders
    whose name begins with a dot never count.

    The images have no camera, unless *every* file is named as in Market-1501 and begins with the number of
    its folder (``0002/0002_c1s1_000451_03.jpg``): then the names give the cameras, ``0000`` is a distractor,
    and ``-1`` and ``-2`` are left out.

    Args:
        folder: the data set's root.

    Raises:
        ReidError: if there are no images, or if some lie outside of the folder of an identity.
    """
    root = root_of(folder)
    top = _folders(root)
    parts = [(name.lower(), f"{root}/{name}") for name in top if name.lower() in SPLITS]
    if parts:
        others = [name for name in top if name.lower() not in SPLITS]
        _warn_of_folders(others, folder, f"beside {', '.join(sorted({split for split, _ in parts}))}")
    groups: list[_Group] = []
    loose: list[str] = []
    nested: list[str] = []
    endings = Counter[str]()
    for split, part in parts or [(UNDECIDED, root)]:
        loose += [name for name in os.listdir(part) if is_image(name)]  # noqa: PTH208 (names only)
        for person in _folders(part):
            at = f"{part}/{person}"
            names = os.listdir(at)  # noqa: PTH208
            groups.append(_Group(split, person, at, [name for name in names if is_image(name)]))
            others = [name for name in names if not is_image(name)]
            folders = {name for name in others if os.path.isdir(f"{at}/{name}")}  # noqa: PTH112
            nested += [f"{at}/{name}"[len(root) + 1 :] for name in folders if not name.startswith(".")]
            endings.update(other_ending(name) for name in others if name not in folders)
    warn_left_out(endings, folder)
    _warn_of_folders(nested, folder, "within the folder of an identity")
    if loose:
        raise ReidError(
            f"images of {folder} must lie in the folder of an identity, but {len(loose)} do not: "
            f"{', '.join(loose[:3])}; {_FORMS}"
        )
    if not any(group.names for group in groups):
        raise ReidError(f"data set folder {folder} must hold images, but has none; {_FORMS}")
    if not parts:
        _warn_of_places({group.person for group in groups if group.names}, folder)
    return _records(groups, folder)


class _Group(NamedTuple):
    """The folder of one identity in one split."""

    split: str
    person: str
    folder: str
    names: list[str]


def _records(groups: Sequence[_Group], folder: Path) -> list[ImageRecord]:
    """Read cameras and special identities from the file names if all of them fit."""
    cameras = [_cameras(group) for group in groups]
    unmatched = [
        f"{group.folder}/{name}"
        for group, numbers in zip(groups, cameras, strict=True)
        for name, camera in zip(group.names, numbers, strict=True)
        if camera is None
    ]
    total = sum(len(group.names) for group in groups)
    if not unmatched:
        return [
            ImageRecord(f"{at}/{name}", NOBODY if int(person) == DISTRACTOR_ID else person, camera, split)
            for (split, person, at, names), numbers in zip(groups, cameras, strict=True)
            if names and int(person) not in (JUNK_ID, AMBIGUOUS_ID)
            for name, camera in zip(names, numbers, strict=True)
        ]
    if len(unmatched) < total:
        logger.warning(
            "%d of %d images of %s are named by identity and camera like 0002/0002_c1s1_000451_03.jpg, but "
            "%s is not: no cameras are read, and no camera rule applies",
            *(total - len(unmatched), total, folder, unmatched[0]),
        )
    return [ImageRecord(f"{at}/{name}", person, None, split) for split, person, at, names in groups for name in names]


def _cameras(group: _Group) -> list[int | None]:
    """The camera in each file name; None if the name does not fit, or has another identity than the folder."""
    if not re.fullmatch(r"-?\d+", group.person):
        return [None] * len(group.names)
    labels = [labels_in(_MARKET_NAME.match(name)) for name in group.names]
    return [pair[1] if pair and pair[0] == int(group.person) else None for pair in labels]


def _folders(folder: str) -> list[str]:
    return [name for name in folders_of(folder) if not name.startswith(".")]


def _warn_of_places(people: Set[str], folder: Path) -> None:
    """Folders of cameras or places look like folders of people; they are few, or are called so."""
    if len(people) < _FEW or all(map(_PLACE.fullmatch, people)):
        logger.warning(
            "%d folders of %s are read as identities: %s; if they are cameras or places, make a folder for each "
            "person, or a CSV file with person_id and camera_id",
            *(len(people), folder, ", ".join(sorted(people)[:5])),
        )


def _warn_of_folders(folders: Sequence[str], folder: Path, where: str) -> None:
    if folders:
        examples = ", ".join(sorted(folders)[:3])
        logger.warning("%d folders of %s are left out, %s: %s", len(folders), folder, where, examples)
