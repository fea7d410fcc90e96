"""The values every reader produces: one image with its labels, and the three splits of a data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from utils.errors import ReidError

DISTRACTOR_ID = 0  # stays in the gallery, never matches, is not one person
JUNK_ID = -1  # out of train, query and gallery
AMBIGUOUS_ID = -2  # PRW: a person without an identity; never used

DRAWN = 0  # in the place of a low-resolution scale: the one that was drawn for each image


class NoTrainingImagesError(ReidError):
    """A data set cannot be trained on, though its test may be whole."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image file with the identity and the camera its data set gives it."""

    path: Path
    person_id: int
    camera_id: int


@dataclass(frozen=True)
class ReidSplits:
    """A data set: the samples of its three splits, each sorted by file.

    Attributes:
        name: what to call it.
        train: images to learn from; empty where only a test is wanted.
        query: images to search with.
        gallery: images to find.
        folders: its root folders; every image lies below one of them. Empty where a list names images
            that lie elsewhere.
        cameras: False = its images have no camera (all are 0), so no camera rule can apply.
    """

    name: str
    train: tuple[Sample, ...]
    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]
    folders: tuple[Path, ...] = ()
    cameras: bool = True


class Draw(NamedTuple):
    """What a sampler asks a data set for: an image, and the seed of its random transforms."""

    row: int
    seed: int


class Item(NamedTuple):
    """One decoded image: uint8 pixels, labels, and the box that training erases."""

    image: Tensor  # (3, H, W) uint8
    label: int
    row: int
    erased: tuple[int, int, int, int]  # top, left, height, width; a height of 0 erases nothing
    scale: int  # the low-resolution scale drawn for it
    low: Mapping[int, Tensor]  # scale, or DRAWN -> its low-resolution file at the same size; {} = none is read


class Batch(NamedTuple):
    """Images of one step with their labels. Every tensor has N rows; images stay uint8 until the device."""

    images: Tensor  # (N, 3, H, W) uint8
    labels: Tensor  # (N,) int64: identity numbered from 0 in training, as in the file name elsewhere
    rows: Tensor  # (N,) int64: position in the split
    erased: Tensor  # (N, 4) int64: top, left, height, width
    scales: Tensor  # (N,) int64: the low-resolution scale drawn for each image
    low: Mapping[int, Tensor]  # scale, or DRAWN -> (N, 3, H, W) uint8 from low-resolution files

    def part(self, wanted: Tensor) -> "Batch":
        """The images for which ``wanted``, (N,) bool, holds."""
        return Batch(
            self.images[wanted],
            self.labels[wanted],
            self.rows[wanted],
            self.erased[wanted],
            self.scales[wanted],
            {scale: images[wanted] for scale, images in self.low.items()},
        )


def identities(samples: Sequence[Sample]) -> list[int]:
    """The distinct identities, sorted, so that numbering them does not depend on the order of files."""
    return sorted({sample.person_id for sample in samples})
