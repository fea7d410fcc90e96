"""A random split for a data set that has none, saved in a file."""

import logging
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from datasets.readers.csv_file import parse_csv, write_csv
from datasets.readers.records import GALLERY, NOBODY, QUERY, TEST, TRAIN, UNDECIDED, ImageRecord
from utils.errors import ReidError

logger = logging.getLogger(__name__)

_ByCamera = dict[int | None, list[str]]  # an identity's paths by camera; all under None if cameras do not matter


class SplitRule(NamedTuple):
    """What a split is for.

    Attributes:
        seed: of a random split.
        with_train: False = only the test counts.
        trained_here: False = the network that is tested comes from another project.
    """

    seed: int = 0
    with_train: bool = True
    trained_here: bool = True


def resolve_split(images: Sequence[ImageRecord], file: Path, rule: SplitRule) -> list[ImageRecord]:
    """Decide the undecided splits, once and for all.

    Images that have query and gallery (or test) stay as they are. For others this function draws a split
    (:func:`draw_split`), saves it and reads it again next time. So later files do not change the split: they are left
    out with a warning, and so are lines whose image is gone. A test that finds no saved split takes all identities,
    saves nothing, and warns each time, because the network may have been trained on some of them. So does a test of a
    network that was trained elsewhere, without a warning and whatever is saved.

    Args:
        images: of all splits.
        file: the CSV file of the random split, a data set of its own.
        rule: what the split is for.

    Raises:
        ReidError: if the file cannot be written, is not a whole split, or contradicts the labels of ``images``.
    """
    seed, with_train, trained_here = rule
    if not _undecided(images):
        return list(images)
    if not with_train and not _has_test(images) and not (trained_here and file.exists()):
        split = draw_split(images, seed, with_train=False)
        count = len({image.person for image in split} - {NOBODY})
        if trained_here:
            logger.warning(
                "no saved split %s: all %d identities are tested, with queries drawn by seed %d; if the network was "
                "trained on some of them, copy %s from the data set on which it was trained",
                *(file, count, seed, file.name),
            )
        else:
            logger.info("all %d identities are tested, with queries drawn by seed %d", count, seed)
        return split
    if file.exists():
        split = _select(_read_split(file), images, file, with_train=with_train)
        if not with_train:
            tested = {image.person for image in split if image.split != TRAIN} - {NOBODY}
            logger.info("%d identities are tested, those of the saved split %s", len(tested), file)
        return split
    split = draw_split(images, seed)
    try:
        write_csv(file, split)
    except OSError as error:
        raise ReidError(
            f"the random split must be saved as {file}, but: {error.strerror or error}; make the folder "
            "writable, or give a CSV file with a split column"
        ) from error
    logger.info("the data set has no queries: split drawn with seed %d and saved as %s", seed, file)
    return split


def draw_split(images: Sequence[ImageRecord], seed: int, *, with_train: bool = True) -> list[ImageRecord]:
    """Draw the undecided parts: test identities, then queries.

    Without any test images (no split at all, or ``train`` only) half of the identities, rounded down, become the
    test, among them half of those that can give a query, rounded up, or all of them where nothing is to be trained;
    otherwise ``train`` stays as it is. One image of each test identity is a query, the others are gallery. With
    cameras, one image of each of its cameras is a query, as long as the gallery keeps an image of another camera for
    every query; if no identity has two cameras, cameras do not matter. So identities with a single image go to the
    gallery, and so do distractors.

    Args:
        images: of all splits.
        seed: of the draw; the order of ``images`` does not matter.
        with_train: False = all identities are the test, unless there are test images.

    Raises:
        ReidError: if there are fewer than 2 identities, or if no query can be drawn.
    """
    rng = random.Random(seed)
    ordered = sorted(images)
    has_test = _has_test(images)
    people = _by_person(image for image in ordered if not has_test or image.split != TRAIN)
    if has_test:
        train = {image.path for image in ordered if image.split == TRAIN}
    elif not with_train:
        train = set()
    else:
        if len(people) < 2:
            raise ReidError(f"a split can be drawn from 2 identities on, but the data set has {len(people)}")
        test = {*_test_identities(people, rng), NOBODY}
        train = {image.path for image in ordered if image.person not in test}
        people = {person: shots for person, shots in people.items() if person in test}
    queries: set[str] = set()
    for person in sorted(people):
        queries |= _queries_of(people[person], rng)
    if not queries:
        raise ReidError(
            "no query can be drawn: no test identity has a second image (of another camera, where there are "
            "cameras); give more images, or a CSV file with a split column"
        )
    splits = ((TRAIN if i.path in train else QUERY if i.path in queries else GALLERY) for i in ordered)
    return [ImageRecord(*image[:3], split) for image, split in zip(ordered, splits, strict=True)]


def _has_test(images: Iterable[ImageRecord]) -> bool:
    return any(image.split not in (UNDECIDED, TRAIN) for image in images)


def _undecided(images: Iterable[ImageRecord]) -> bool:
    splits = {image.split for image in images}
    return QUERY not in splits or not splits & {GALLERY, TEST}


def _by_person(images: Iterable[ImageRecord]) -> dict[str, _ByCamera]:
    """The paths of each identity by camera; under None if no identity has two cameras."""
    people: dict[str, _ByCamera] = defaultdict(lambda: defaultdict(list))
    for path, person, camera, _ in images:
        if person != NOBODY:
            people[person][camera].append(path)
    if any(len(by_camera) > 1 for by_camera in people.values()):
        return people
    return {person: {None: paths} for person, by_camera in people.items() for paths in by_camera.values()}


def _test_identities(people: Mapping[str, _ByCamera], rng: random.Random) -> list[str]:
    """Half of the identities: half of those that can give a query, rounded up, and some of the others."""
    able = {person for person, shots in people.items() if len(shots) > 1 or len(shots.get(None, ())) > 1}
    total = len(people) // 2
    first = min(total, (len(able) + 1) // 2)
    return [*rng.sample(sorted(able), first), *rng.sample(sorted(set(people) - able), total - first)]


def _queries_of(by_camera: _ByCamera, rng: random.Random) -> set[str]:
    """Queries of one identity: one image per camera as long as each keeps a match."""
    if None in by_camera:
        return {rng.choice(by_camera[None])} if len(by_camera[None]) > 1 else set()
    counts = {camera: len(paths) for camera, paths in by_camera.items()}  # of the gallery
    queries: dict[int | None, str] = {}
    for camera in sorted(by_camera, key=lambda camera: (-counts[camera], camera)):
        counts[camera] -= 1
        remaining = {other for other, count in counts.items() if count}
        if all(remaining - {of_query} for of_query in (*queries, camera)):
            queries[camera] = rng.choice(by_camera[camera])
        else:
            counts[camera] += 1
    return set(queries.values())


def _read_split(file: Path) -> list[ImageRecord]:
    split = list(parse_csv(file, saved=True).values())
    if _undecided(split) or any(image.split == UNDECIDED for image in split):
        raise ReidError(
            f"the saved split {file} must have a split column with queries and gallery, but does not; delete it to "
            "draw a new split"
        )
    return split


def _select(
    split: Sequence[ImageRecord], images: Sequence[ImageRecord], file: Path, *, with_train: bool
) -> list[ImageRecord]:
    """The saved split without images that are gone; warn of images that only one of the two has."""
    by_path = {image.path: image for image in split}
    present = {image.path for image in images}
    new = [image.path for image in images if image.path not in by_path]
    gone = [i.path for i in split if i.path not in present and (with_train or i.split != TRAIN)]
    has_test = _has_test(images)  # without test images the split divides the training images
    changed = [
        image.path
        for image in images
        if (saved := by_path.get(image.path, image))[:3] != image[:3]
        or (has_test and (saved.split == TRAIN) != (image.split == TRAIN))
    ]
    remedy = f"delete {file} to draw a new split"
    if changed:
        raise ReidError(
            f"the saved split {file} must have the data set's identities, cameras and training images, but "
            f"{len(changed)} images have others, e.g. {changed[0]}; {remedy}"
        )
    for paths, what in ((new, "are not in the saved split"), (gone, "of the saved split are gone")):
        if paths:
            logger.warning("%d images %s and left out, e.g. %s; %s", len(paths), what, paths[0], remedy)
    return [image for image in split if image.path in present]
