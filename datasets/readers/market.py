"""Data sets in Market-1501 layout: three folders of files named by identity and camera."""

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from datasets.sample import AMBIGUOUS_ID, JUNK_ID, LONGEST_NUMBER, NoTrainingImagesError, ReidSplits, Sample
from utils.blocks import row_blocks
from utils.errors import ReidError
from utils.images import is_image, other_ending, warn_left_out

logger = logging.getLogger(__name__)

CONVERSION_MARK = "convert.json"  # in each folder that datasets.convert made; it says how
UNKNOWN_ID = -3  # identity or camera of a file whose name has none; -1 and -2 mean junk in a Market name
_NO_FOLDER = "data set folder {} must exist, but does not; see the layout in README.md"
_BYTES_PER_NAME = 4096  # of the memory budget, while a name is parsed


@dataclass(frozen=True)
class MarketLayout:
    """The folders of the three splits, and the pattern of a file name.

    Attributes:
        pattern: matched against the start of a file's *name* (never its path); its groups ``id`` and
            ``camera`` are whole numbers. Without the group ``camera`` the images have none.
    """

    train: str = "bounding_box_train"
    query: str = "query"
    gallery: str = "bounding_box_test"
    pattern: str = r"(?P<id>-?\d+)_c(?P<camera>\d+)"


TRACKING = ("mot17", "mot16", "mot20", "dancetrack", "sportsmot")
"""Releases that datasets.convert reads by the files of MOT17."""

# They have one camera per sequence, so the cameras in their file names do not count.
NO_CAMERAS = MarketLayout(pattern=r"(?P<id>-?\d+)_")


@dataclass(frozen=True)
class MarketReader:
    """Reader of a named data set in Market layout.

    Attributes:
        name: of the data set.
        folders: possible names of its folder below the root; the first that exists counts.
        layout: of its folders and file names; None = that of Market-1501.
    """

    name: str
    folders: tuple[str, ...]
    layout: MarketLayout | None = None

    def __call__(self, root: Path, *, with_train: bool) -> ReidSplits:
        """Read; see :func:`read_market_layout`."""
        candidates = [root / folder for folder in self.folders]
        folder = next((path for path in candidates if path.is_dir()), candidates[0])
        return read_market_layout(folder, self.name, self.layout, with_train=with_train)


def layout_of(folder: Path) -> MarketLayout:
    """The layout of a folder by its mark: that of Market-1501, or without cameras for converted tracking data."""
    try:
        mark = json.loads((folder / CONVERSION_MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # only the images count, whoever made the folder
        mark = None
    maker = mark.get("made_by") if isinstance(mark, dict) else None
    return NO_CAMERAS if maker in [f"datasets.convert {release}" for release in TRACKING] else MarketLayout()


def read_market_layout(
    folder: Path, name: str, layout: MarketLayout | None = None, *, with_train: bool = True
) -> ReidSplits:
    """Read the splits of a data set.

    Args:
        folder: the folder that holds the folders of the splits.
        name: of the data set.
        layout: names of the folders and of the files; None = those of Market-1501.
        with_train: False leaves the training split empty and its folder unread. If it is True and neither folder of
            the test exists, the test is empty: such a data set is for training only.

    Raises:
        ReidError: see :func:`read_split`; NoTrainingImagesError if the folder of the training is missing.
    """
    layout = layout or MarketLayout()
    check_folder(folder, name)
    if with_train and not (folder / layout.train).is_dir():
        raise NoTrainingImagesError(_NO_FOLDER.format(folder / layout.train))
    test = [layout.query, layout.gallery]
    if with_train and not any((folder / part).is_dir() for part in test):
        test = ["", ""]
    train, query, gallery = (
        read_split(folder / part, layout.pattern) if part else ()
        for part in (layout.train if with_train else "", *test)
    )
    return ReidSplits(name, train, query, gallery, (folder,), _has_cameras(layout.pattern))


def check_folder(folder: Path, name: str) -> None:
    """Check that the folder of a named data set exists.

    Raises:
        ReidError: if it does not.
    """
    if not folder.is_dir():
        raise ReidError(
            f"data set {name} must lie in {folder}, which does not exist; "
            f"set DATASETS.ROOT_DIR (python -m datasets.stats: --root) to the folder that contains {folder.name}"
        )


def read_split(folder: Path, pattern: str) -> tuple[Sample, ...]:
    """The samples of one folder, in one directory walk.

    Raises:
        ReidError: if the folder is missing, has no image with an identity, or has images whose names do not fit the
            pattern.
    """
    if not folder.is_dir():
        raise ReidError(_NO_FOLDER.format(folder))
    names = os.listdir(folder)  # noqa: PTH208 (names only)
    samples, unmatched = parse_names(names, pattern, folder)
    others = [(name, ending) for name in names if (ending := other_ending(name))]
    warn_left_out(Counter("folders" if (folder / name).is_dir() else ending for name, ending in others), folder)
    if unmatched:
        raise ReidError(
            f"images in {folder} must be named like 0002_c1s1_000451_03.jpg (identity, camera: 18 digits at most), "
            f"but {len(unmatched)} are not: {', '.join(unmatched[:3])}; rename or remove them"
        )
    if not samples:
        raise ReidError(f"data set folder {folder} must hold images with an identity, but has none")
    return tuple(samples)


def parse_names(names: Iterable[str], pattern: str, folder: Path) -> tuple[list[Sample], list[str]]:
    """Turn file names into samples.

    Args:
        names: file names without folder.
        pattern: see :class:`MarketLayout`.
        folder: where the files lie.

    Returns:
        The samples sorted by file name, without junk (-1) and ambiguous (-2) images, and the names of image files
        that do not fit the pattern. The camera is 0 if the pattern has none.
    """
    compiled = re.compile(pattern)
    samples, unmatched = [], []
    for name in sorted(names):
        if not is_image(name):
            continue
        labels = labels_in(compiled.match(name))
        if labels is None:
            unmatched.append(name)
        elif labels[0] not in (JUNK_ID, AMBIGUOUS_ID):
            samples.append(Sample(folder / name, *labels))
    return samples, unmatched


def labels_in(match: re.Match[str] | None) -> tuple[int, int] | None:
    """Identity and camera (0 without one) of a name that fits a pattern; None if it does not, or exceeds 64 bits."""
    if match is None:
        return None
    numbers = match["id"], match.groupdict().get("camera", "0")
    return None if max(map(len, numbers)) > LONGEST_NUMBER else (int(numbers[0]), int(numbers[1]))


class Names(Protocol):
    """File names that can be sliced: a list, an array, or paths that are made block by block."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice, /) -> Any: ...  # noqa: ANN401 (a list, an array)


def labels_of(names: Names) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Identities and cameras from file names in the pattern of Market-1501.

    Args:
        names: (N,) file names or paths; folders do not matter.

    Returns:
        person_ids (N,) and camera_ids (N,); :data:`UNKNOWN_ID` where the pattern does not fit, -1 or -2 for junk.
    """
    match = re.compile(MarketLayout().pattern).match
    person_ids, camera_ids = np.empty(len(names), np.int64), np.empty(len(names), np.int64)
    for rows in row_blocks(len(names), _BYTES_PER_NAME):
        matches = (match(name, max(name.rfind("/"), name.rfind("\\")) + 1) for name in map(str, names[rows]))
        labels = [labels_in(of_name) or (UNKNOWN_ID, UNKNOWN_ID) for of_name in matches]
        person_ids[rows], camera_ids[rows] = np.array(labels, np.int64).reshape(-1, 2).T
    return person_ids, camera_ids


def _has_cameras(pattern: str) -> bool:
    return "camera" in re.compile(pattern).groupindex
