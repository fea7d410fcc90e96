"""The specification of a synthetic data set, and the list of its images."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from utils.errors import ReidError

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
# Names hold four digits. The people after the last identity are distractors and junk, so that none of
# them is an identity as well.
_MOST_IDENTITIES = 9_999
_FIRST_DISTRACTOR, _FIRST_JUNK = 10_000, 20_000


def _count(default: int, low: int, high: int, text: str) -> int:
    return field(default=default, metadata={"low": low, "high": high, "help": text})


@dataclass(frozen=True)
class SyntheticSpec:
    """A synthetic data set; equal specifications give equal files.

    An image depends only on its person, camera, number, size and seed, so a larger data set contains the people of a
    smaller one.

    Args:
        train_ids: identities in the training folder, numbered from 1.
        test_ids: identities in query and gallery, with the numbers after those.
        cameras: number of cameras; each sees everybody.
        images_per_camera: images of an identity from each camera; the first of a test identity is a query.
        height: of an image, in pixels.
        width: of an image, in pixels.
        distractors: gallery images named ``0000``, each of another person who is not an identity.
        junk: gallery images named ``-1``, which miss most of the person.
        seed: another seed gives other people, cameras and images.

    Raises:
        ReidError: if a number is out of its range.
    """

    train_ids: int = _count(32, 1, _MOST_IDENTITIES - 1, "identities to train on")
    test_ids: int = _count(32, 1, _MOST_IDENTITIES - 1, "identities in query and gallery")
    cameras: int = _count(4, 2, 9, "cameras; each sees everybody")
    images_per_camera: int = _count(3, 2, 999, "images of an identity from each camera")
    height: int = _count(128, 16, 2048, "height of an image in pixels")
    width: int = _count(64, 8, 1024, "width of an image in pixels")
    distractors: int = _count(32, 0, 9_999, "gallery images 0000, of people who match nobody")
    junk: int = _count(8, 0, 9_999, "gallery images -1, which miss most of the person")
    seed: int = _count(0, 0, 2**31 - 1, "another seed gives other people, cameras and images")

    def __post_init__(self) -> None:
        for each in fields(self):
            value: object = getattr(self, each.name)
            low, high = each.metadata["low"], each.metadata["high"]
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ReidError(
                    f"{each.name} must be an integer from {low} to {high}, got {value!r}; "
                    f"{each.default} is a good start"
                )
        if self.train_ids + self.test_ids > _MOST_IDENTITIES:
            raise ReidError(
                f"train_ids + test_ids must be at most {_MOST_IDENTITIES} (names hold four digits), "
                f"got {self.train_ids} + {self.test_ids}; lower one of them"
            )


class PlannedImage(NamedTuple):
    """One image of a data set.

    Args:
        path: relative to the folder of the data set, with forward slashes.
        person: the person on the image; an identity's own number, or a higher number.
        camera: from 1.
        number: of the image among those of this person and camera, from 0.
        misplaced: the crop misses most of the person.
    """

    path: str
    person: int
    camera: int
    number: int
    misplaced: bool = False


def plan_images(spec: SyntheticSpec) -> Iterator[PlannedImage]:
    """All images of the data set: identities first, then distractors, then junk."""
    for person in range(1, spec.train_ids + spec.test_ids + 1):
        for camera in range(1, spec.cameras + 1):
            for number in range(spec.images_per_camera):
                folder = TRAIN if person <= spec.train_ids else QUERY if number == 0 else GALLERY
                path = f"{folder}/{person:04d}_{_view(camera, number)}"
                yield PlannedImage(path, person, camera, number)
    others = (("0000", _FIRST_DISTRACTOR, spec.distractors), ("-1", _FIRST_JUNK, spec.junk))
    for label, first, count in others:
        for number in range(count):
            camera = 1 + number % spec.cameras
            path = f"{GALLERY}/{label}_{_view(camera, number)}"
            yield PlannedImage(path, first + number, camera, 0, misplaced=label == "-1")


def _view(camera: int, number: int) -> str:
    # Market-1501 keeps one frame in 25, the first being number 1.
    return f"c{camera}s1_{25 * number + 1:06d}_01.jpg"
