"""The values that pass from reader to network: labeled images, the splits of a data set, batches."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from utils.errors import ReidError

DISTRACTOR_ID = 0  # stays in the gallery, never matches, is not one person
JUNK_ID = -1  # out of train, query and gallery
AMBIGUOUS_ID = -2  # PRW: a person without an identity; never used


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
        train: images to learn from; empty for a test.
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

    @property
    def test(self) -> tuple[Sample, ...]:
        """The queries, then the gallery."""
        return (*self.query, *self.gallery)

    @property
    def parts(self) -> dict[str, tuple[Sample, ...]]:
        """The splits by name: ``train``, ``query``, ``gallery``."""
        return {"train": self.train, "query": self.query, "gallery": self.gallery}


class SeededIndex(NamedTuple):
    """What a sampler asks a data set for: an image, and the seed of its random transforms."""

    row: int
    seed: int


class Item(NamedTuple):
    """One decoded image with its labels, as a worker hands it over; see :class:`Batch`."""

    image: Tensor
    label: int
    row: int
    erased: tuple[int, int, int, int]
    scale: int
    low: Tensor | None
    low_by_scale: Mapping[int, Tensor]


class View(NamedTuple):
    """The images of a batch at one resolution.

    Attributes:
        images: (N, 3, H, W) uint8.
        scale: low resolution that the device still has to give them, 1 = none; or one for each, (N,) int64.
    """

    images: Tensor
    scale: int | Tensor


class Batch(NamedTuple):
    """Images of one step with their labels. Every tensor has N rows; images stay uint8 until the device.

    The random scales are those of training, the scales by which files are read those of a test. The methods say
    what the network is to see, whether or not low-resolution files were read.
    """

    images: Tensor  # (N, 3, H, W) uint8
    labels: Tensor  # (N,) int64: identity numbered from 0 in training, as in the file name elsewhere
    rows: Tensor  # (N,) int64: position in the split
    erased: Tensor  # (N, 4) int64: top, left, height, width of the box that is erased; height 0 = none
    scales: Tensor  # (N,) int64: the random low-resolution scale of each image
    low: Tensor | None  # (N, 3, H, W) uint8: the low-resolution files at these scales; None = none are read
    low_by_scale: Mapping[
        int, Tensor
    ]  # scale -> (N, 3, H, W) uint8, its low-resolution files; absent = none are read

    def full_resolution(self) -> View:
        """The images as they are."""
        return View(self.images, 1)

    def low_resolution(self) -> View:
        """Each image at its random scale."""
        return View(self.images, self.scales) if self.low is None else View(self.low, 1)

    def at_scale(self, scale: int) -> View:
        """All images at one scale."""
        return View(self.low_by_scale[scale], 1) if scale in self.low_by_scale else View(self.images, scale)

    def part(self, mask: Tensor) -> "Batch":
        """The images for which ``mask``, (N,) bool, holds."""
        return Batch(
            self.images[mask],
            self.labels[mask],
            self.rows[mask],
            self.erased[mask],
            self.scales[mask],
            None if self.low is None else self.low[mask],
            {scale: images[mask] for scale, images in self.low_by_scale.items()},
        )


Views = Mapping[str, Callable[[Batch], View]]
"""The views of a batch by name, each as the method of a batch that gives it."""


def identities(samples: Sequence[Sample]) -> list[int]:
    """The distinct identities, sorted, so that numbering them does not depend on the order of files."""
    return sorted({sample.person_id for sample in samples})
