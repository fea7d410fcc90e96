"""Reader for data sets in Market-1501 layout: three folders whose file names carry identity and camera."""

import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from datasets.sample import AMBIGUOUS_ID, JUNK_ID, NoTrainingImagesError, ReidSplits, Sample
from utils.errors import ReidError

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
_ENDINGS = tuple(IMAGE_SUFFIXES)
_NO_FOLDER = "data set folder {} must exist, but does not; see the layout in README.md"


@dataclass(frozen=True)
class MarketLayout:
    """Where the three splits lie and how a file name reads.

    Attributes:
        pattern: matched against the start of a file's *name* (never its path); its groups ``id`` and
            ``camera`` are whole numbers. Without the group ``camera`` the images have none.
    """

    train: str = "bounding_box_train"
    query: str = "query"
    gallery: str = "bounding_box_test"
    pattern: str = r"(?P<id>-?\d+)_c(?P<camera>\d+)"


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image; hidden files, such as the ``._*`` of macOS, are none."""
    return name.lower().endswith(_ENDINGS) and not name.startswith(".")


def parse_names(names: Iterable[str], pattern: str, folder: Path) -> tuple[list[Sample], list[str]]:
    """Turn file names into samples.

    Args:
        names: file names without folder.
        pattern: see :class:`MarketLayout`.
        folder: where the files lie.

    Returns:
        The samples sorted by file name, without junk (-1) and ambiguous (-2) images, and the names of
        image files that the pattern does not fit. Camera 0 where the pattern names none.
    """
    compiled = re.compile(pattern)
    cameras = has_cameras(pattern)
    samples, strangers = [], []
    for name in sorted(names):
        if not is_image(name):
            continue
        match = compiled.match(name)
        if match is None:
            strangers.append(name)
        elif (person_id := int(match["id"])) not in (JUNK_ID, AMBIGUOUS_ID):
            samples.append(Sample(folder / name, person_id, int(match["camera"]) if cameras else 0))
    return samples, strangers


def has_cameras(pattern: str) -> bool:
    """Whether a pattern of file names tells the camera."""
    return "camera" in re.compile(pattern).groupindex


def read_split(folder: Path, pattern: str) -> tuple[Sample, ...]:
    """The samples of one folder, in one directory walk.

    Raises:
        ReidError: if the folder is missing, or holds no image with an identity, or images whose names
            do not fit the pattern.
    """
    if not folder.is_dir():
        raise ReidError(_NO_FOLDER.format(folder))
    samples, strangers = parse_names(os.listdir(folder), pattern, folder)  # noqa: PTH208 (names only)
    if strangers:
        shown = ", ".join(strangers[:3])
        raise ReidError(
            f"images in {folder} must be named like 0002_c1s1_000451_03.jpg (identity, camera), "
            f"but {len(strangers)} are not: {shown}; rename or remove them"
        )
    if not samples:
        raise ReidError(f"data set folder {folder} must hold images with an identity, but has none")
    return tuple(samples)


def read_market_layout(
    folder: Path, name: str, layout: MarketLayout | None = None, *, with_train: bool = True
) -> ReidSplits:
    """Read the splits of a data set.

    Args:
        folder: the folder that holds the folders of the splits.
        name: what to call the data set.
        layout: names of the folders and of the files; None = those of Market-1501.
        with_train: False leaves the training split empty and its folder unread. With it the test is empty
            where neither of its folders exists: a data set to train on only.

    Raises:
        ReidError: see :func:`read_split`; NoTrainingImagesError where the folder of the training is missing.
    """
    layout = layout or MarketLayout()
    if not folder.is_dir():
        raise ReidError(
            f"data set {name} must lie in {folder}, which does not exist; "
            f"set DATASETS.ROOT_DIR to the folder that contains {folder.name}"
        )
    if with_train and not (folder / layout.train).is_dir():
        raise NoTrainingImagesError(_NO_FOLDER.format(folder / layout.train))
    tested = [layout.query, layout.gallery]
    if with_train and not any((folder / part).is_dir() for part in tested):
        tested = ["", ""]
    train, query, gallery = (
        read_split(folder / part, layout.pattern) if part else ()
        for part in (layout.train if with_train else "", *tested)
    )
    return ReidSplits(name, train, query, gallery, (folder,), has_cameras(layout.pattern))
