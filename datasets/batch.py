"""What passes from a sampler to the network: indices with seeds, decoded images, batches and their views."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

UNKNOWN_CAMERA = -1


class SeededIndex(NamedTuple):
    """What a sampler requests from a data set: an image, and the seed of its random transforms."""

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
    camera: int = UNKNOWN_CAMERA


class View(NamedTuple):
    """The images of a batch at one resolution.

    Attributes:
        images: (N, 3, H, W) uint8.
        scale: low resolution that the device still has to apply, 1 = none; or one per image, (N,) int64.
    """

    images: Tensor
    scale: int | Tensor


class Batch(NamedTuple):
    """Images of one step with their labels; images stay uint8 until they are on the device.

    Training uses the random scales, a test the files by scale. The methods give what the network sees, whether or not
    low-resolution files were read.

    Attributes:
        images: (N, 3, H, W) uint8.
        labels: (N,) int64, the identity: numbered from 0 in training, as in the file name elsewhere.
        rows: (N,) int64, position in the split.
        erased: (N, 4) int64, top, left, height, width of the box to erase; height 0 = none.
        scales: (N,) int64, the random low-resolution scale of each image.
        low: (N, 3, H, W) uint8, the low-resolution files at these scales; None = none are read.
        low_by_scale: scale -> (N, 3, H, W) uint8, its low-resolution files; empty = none are read.
        cameras: (N,) int64, place of the camera among those that the network knows, from 0 on; -1 = unknown. None =
            all are unknown.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor
    erased: Tensor
    scales: Tensor
    low: Tensor | None
    low_by_scale: Mapping[int, Tensor]
    cameras: Tensor | None = None

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
            None if self.cameras is None else self.cameras[mask],
        )


Views = Mapping[str, Callable[[Batch], View]]
"""Name -> the method of a batch that gives this view."""
