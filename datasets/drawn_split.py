"""Splits drawn by seed for a data set that comes without, and kept in a file from then on."""

import logging
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from datasets.csv_dataset import parse_csv, write_csv
from datasets.labelled_images import GALLERY, NOBODY, QUERY, TEST, TRAIN, UNDECIDED, LabelledImage
from utils.errors import ReidError

logger = logging.getLogger(__name__)


def with_split(images: Sequence[LabelledImage], saved: Path, seed: int) -> list[LabelledImage]:
    """Decide the splits that are undecided, once and for all.

    Images that have query and gallery (or test) stay as they are. For others :func:`draw_split` is saved and
    read again next time, so that files added later do not change it: these are left out with a warning, and
    so are lines whose image is gone.

    Args:
        images: of all splits.
        saved: the CSV file of the drawn split, a data set of its own.
        seed: of the draw.

    Raises:
        ReidError: if the file cannot be written, or contradicts the labels of ``images``.
    """
    splits = {image.split for image in images}
    if QUERY in splits and splits & {GALLERY, TEST}:
        return list(images)
    if not saved.exists():
        drawn = draw_split(images, seed)
        try:
            write_csv(saved, drawn)
        except OSError as error:
            raise ReidError(
                f"the drawn split must be saved as {saved}, but: {error.strerror or error}; make the folder "
                "writable, or give a CSV file with a split column"
            ) from error
        logger.info("no query and gallery given: drawn with seed %d and saved as %s", seed, saved)
    return _agreed(images, list(parse_csv(saved).values()), saved)


def draw_split(images: Sequence[LabelledImage], seed: int) -> list[LabelledImage]:
    """Draw what is undecided: test identities, then queries.

    Without any test images (no split at all, or ``train`` only) half of the identities, rounded down, become
    the test; otherwise ``train`` stays as it is. One image of each test identity is a query, the others are
    gallery. With cameras it is one image of each of its cameras, as long as the gallery keeps an image of
    another camera for every query. So identities with a single image go to the gallery, and so do distractors.

    Args:
        images: of all splits.
        seed: of the draw; the order of ``images`` plays no part.

    Raises:
        ReidError: if there are fewer than 2 identities, or no query comes out.
    """
    rng = random.Random(seed)
    ordered = sorted(images)
    if not {image.split for image in ordered} <= {UNDECIDED, TRAIN}:
        train = [image for image in ordered if image.split == TRAIN]
    else:
        people = sorted({image.person for image in ordered} - {NOBODY})
        if len(people) < 2:
            raise ReidError(f"a split can be drawn from 2 identities on, but the data set has {len(people)}")
        tested = {*rng.sample(people, len(people) // 2), NOBODY}
        train = [image._replace(split=TRAIN) for image in ordered if image.person not in tested]
    taken = {image.path for image in train}
    pool = [image for image in ordered if image.path not in taken]
    queries = _draw_queries(pool, rng)
    if not queries:
        raise ReidError(
            "no query can be drawn: no test identity has a second image (of another camera, where there are "
            "cameras); give more images, or a CSV file with a split column"
        )
    return [*train, *(image._replace(split=QUERY if image.path in queries else GALLERY) for image in pool)]


def _draw_queries(pool: Sequence[LabelledImage], rng: random.Random) -> set[str]:
    """The paths of the queries."""
    seen: dict[str, dict[int | None, list[str]]] = defaultdict(lambda: defaultdict(list))
    for image in pool:
        if image.person != NOBODY:
            seen[image.person][image.camera].append(image.path)
    queries: set[str] = set()
    for person in sorted(seen):
        queries |= _queries_of(seen[person], rng)
    return queries


def _queries_of(by_camera: dict[int | None, list[str]], rng: random.Random) -> set[str]:
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


def _agreed(images: Sequence[LabelledImage], drawn: Sequence[LabelledImage], saved: Path) -> list[LabelledImage]:
    """The saved split without images that are gone; speaks of whatever the two do not share."""
    known = {image.path: image for image in drawn}
    present = {image.path for image in images}
    new = [image.path for image in images if image.path not in known]
    gone = [image.path for image in drawn if image.path not in present]
    changed = [i.path for i in images if i.path in known and known[i.path][:3] != i[:3]]
    again = f"delete {saved} to draw a new split"
    if changed:
        raise ReidError(
            f"the saved split {saved} must have the data set's identities and cameras, but {len(changed)} "
            f"images have others, e.g. {changed[0]}; {again}"
        )
    for paths, what in ((new, "are not in the saved split"), (gone, "of the saved split are gone")):
        if paths:
            logger.warning("%d images %s and left out, e.g. %s; %s", len(paths), what, paths[0], again)
    return [image for image in drawn if image.path in present]
