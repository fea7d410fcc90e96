"""What a reader returns: labeled images in the splits of a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.errors import ReidError

DISTRACTOR_ID = 0  # stays in the gallery and never matches; not a single person
JUNK_ID = -1  # in no split
AMBIGUOUS_ID = -2  # PRW: a person without an identity; in no split
LONGEST_NUMBER = 18  # digits of an identity or a camera; more do not fit into 64 bits


class NoTrainingImagesError(ReidError):
    """A data set cannot be trained on, although its test may be complete."""


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
        name: of the data set.
        train: images to learn from; empty for a test.
        query: images to search with.
        gallery: images to find.
        folders: root folders; every image lies below one of them. Empty if a list names images elsewhere.
        cameras: False = the images have no camera (all are 0), so the camera rule does not apply.
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


def identities(samples: Sequence[Sample]) -> list[int]:
    """The distinct identities, sorted, so their numbering does not depend on the order of files."""
    return sorted({sample.person_id for sample in samples})
