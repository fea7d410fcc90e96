"""Splits drawn by seed for a data set that comes without, and kept in a file from then on."""

import logging
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from datasets.csv_dataset import parse_csv, write_csv
from datasets.labelled_images import GALLERY, NOBODY, QUERY, TEST, TRAIN, UNDECIDED, LabelledImage
from utils.errors import ReidError

logger = logging.getLogger(__name__)

_ByCamera = dict[int | None, list[str]]  # an identity's paths by camera; all by None where cameras play no part


def with_split(
    images: Sequence[LabelledImage], saved: Path, seed: int, *, with_train: bool = True
) -> list[LabelledImage]:
    """Decide the splits that are undecided, once and for all.

    Images that have query and gallery (or test) stay as they are. For others :func:`draw_split` is saved and
    read again next time, so that files added later do not change it: these are left out with a warning, and
    so are lines whose image is gone. Test identities that a test has to draw are not saved: they may be
    people that its network was trained on, and it warns each time.

    Args:
        images: of all splits.
        saved: the CSV file of the drawn split, a data set of its own.
        seed: of the draw.
        with_train: False = only the test counts.

    Raises:
        ReidError: if the file cannot be written, is no whole split, or contradicts the labels of ``images``.
    """
    if not _undecided(images):
        return list(images)
    if saved.exists():
        return _agreed(images, _read_split(saved), saved, with_train=with_train)
    drawn = draw_split(images, seed)
    if not with_train and not _has_test(images):
        logger.warning(
            "no saved split %s: drawn anew with seed %d, so people that the network was trained on may be tested; "
            "copy %s from the training machine",
            *(saved, seed, saved.name),
        )
        return drawn
    try:
        write_csv(saved, drawn)
    except OSError as error:
        raise ReidError(
            f"the drawn split must be saved as {saved}, but: {error.strerror or error}; make the folder "
            "writable, or give a CSV file with a split column"
        ) from error
    logger.info("no query and gallery given: drawn with seed %d and saved as %s", seed, saved)
    return drawn


def draw_split(images: Sequence[LabelledImage], seed: int) -> list[LabelledImage]:
    """Draw what is undecided: test identities, then queries.

    Without any test images (no split at all, or ``train`` only) half of the identities, rounded down, become
    the test, and half of those that can give a query, rounded up; otherwise ``train`` stays as it is. One image
    of each test identity is a query, the others are gallery. With cameras it is one image of each of its
    cameras, as long as the gallery keeps an image of another camera for every query; where no identity has two
    cameras they play no part. So identities with a single image go to the gallery, and so do distractors.

    Args:
        images: of all splits.
        seed: of the draw; the order of ``images`` plays no part.

    Raises:
        ReidError: if there are fewer than 2 identities, or no query comes out.
    """
    rng = random.Random(seed)
    ordered = sorted(images)
    given = _has_test(images)
    people = _by_person(image for image in ordered if not given or image.split != TRAIN)
    if given:
        trained = {image.path for image in ordered if image.split == TRAIN}
    else:
        if len(people) < 2:
            raise ReidError(f"a split can be drawn from 2 identities on, but the data set has {len(people)}")
        tested = {*_test_identities(people, rng), NOBODY}
        trained = {image.path for image in ordered if image.person not in tested}
        people = {person: shots for person, shots in people.items() if person in tested}
    queries: set[str] = set()
    for person in sorted(people):
        queries |= _queries_of(people[person], rng)
    if not queries:
        raise ReidError(
            "no query can be drawn: no test identity has a second image (of another camera, where there are "
            "cameras); give more images, or a CSV file with a split column"
        )
    splits = ((TRAIN if i.path in trained else QUERY if i.path in queries else GALLERY) for i in ordered)
    return [LabelledImage(*image[:3], split) for image, split in zip(ordered, splits, strict=True)]


def _has_test(images: Iterable[LabelledImage]) -> bool:
    return any(image.split not in (UNDECIDED, TRAIN) for image in images)


def _undecided(images: Iterable[LabelledImage]) -> bool:
    splits = {image.split for image in images}
    return QUERY not in splits or not splits & {GALLERY, TEST}


def _by_person(images: Iterable[LabelledImage]) -> dict[str, _ByCamera]:
    """The paths of each identity by camera; by None where no identity has two cameras."""
    seen: dict[str, _ByCamera] = defaultdict(lambda: defaultdict(list))
    for path, person, camera, _ in images:
        if person != NOBODY:
            seen[person][camera].append(path)
    if any(len(by_camera) > 1 for by_camera in seen.values()):
        return seen
    return {person: {None: paths} for person, by_camera in seen.items() for paths in by_camera.values()}


def _test_identities(people: Mapping[str, _ByCamera], rng: random.Random) -> list[str]:
    """A half of those that can give a query and, as far as that leaves room, of the others: no luck needed."""
    able = {person for person, shots in people.items() if len(shots) > 1 or len(shots.get(None, ())) > 1}
    wanted = len(people) // 2
    first = min(wanted, (len(able) + 1) // 2)
    chosen = rng.sample(sorted(able), first)
    return [*chosen, *rng.sample(sorted(set(people) - able), wanted - first)]


def _queries_of(by_camera: _ByCamera, rng: random.Random) -> set[str]:
    """Queries of one identity: one image per camera as long as each keeps a match."""
    if None in by_camera:
        return {rng.choice(by_camera[None])} if len(by_camera[None]) > 1 else set()
    left = {camera: len(paths) for camera, paths in by_camera.items()}
    chosen: dict[int | None, str] = {}
    for camera in sorted(by_camera, key=lambda camera: (-left[camera], camera)):
        left[camera] -= 1
        remaining = {other for other, count in left.items() if count}
        if all(remaining - {asked} for asked in (*chosen, camera)):
            chosen[camera] = rng.choice(by_camera[camera])
        else:
            left[camera] += 1
    return set(chosen.values())


def _read_split(saved: Path) -> list[LabelledImage]:
    drawn = list(parse_csv(saved).values())
    if _undecided(drawn) or any(image.split == UNDECIDED for image in drawn):
        raise ReidError(
            f"the saved split {saved} must have a split column with queries and gallery, but has not; delete it to "
            "draw a new split"
        )
    return drawn


def _agreed(
    images: Sequence[LabelledImage], drawn: Sequence[LabelledImage], saved: Path, *, with_train: bool
) -> list[LabelledImage]:
    """The saved split without images that are gone; speaks of whatever the two do not share."""
    known = {image.path: image for image in drawn}
    present = {image.path for image in images}
    new = [image.path for image in images if image.path not in known]
    gone = [i.path for i in drawn if i.path not in present and (with_train or i.split != TRAIN)]
    given = _has_test(images)  # else what is given as training is divided
    changed = [
        image.path
        for image in images
        if (kept := known.get(image.path, image))[:3] != image[:3]
        or (given and (kept.split == TRAIN) != (image.split == TRAIN))
    ]
    again = f"delete {saved} to draw a new split"
    if changed:
        raise ReidError(
            f"the saved split {saved} must have the data set's identities, cameras and training images, but "
            f"{len(changed)} images have others, e.g. {changed[0]}; {again}"
        )
    for paths, what in ((new, "are not in the saved split"), (gone, "of the saved split are gone")):
        if paths:
            logger.warning("%d images %s and left out, e.g. %s; %s", len(paths), what, paths[0], again)
    return [image for image in drawn if image.path in present]
