"""Samples as a torch data set, with random transforms that depend on the draw's seed alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datasets.sample import Batch, Draw, Item, Sample
from datasets.transforms import Transformed
from utils.errors import ReidError
from utils.images import read_image

_NO_TWINS: Mapping[int, Sequence[Path]] = MappingProxyType({})


class Transform(Protocol):
    """What a worker makes of one image and its low-resolution files."""

    def __call__(self, image: Tensor, low: Mapping[int, Tensor]) -> Transformed:
        """(3, h, w) uint8 and scale -> (3, h', w') uint8 -> all at one size (3, H, W)."""


class ImageDataset(Dataset[Item]):
    """Images on disk with their labels.

    Args:
        samples: files, identities, cameras.
        labels: one whole number per sample.
        transform: (3, h, w) uint8 -> (3, H, W) uint8 and what the device does to it.
        twins: scale -> the low-resolution file of each sample; empty where the device lowers the resolution.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        labels: Sequence[int],
        transform: Transform,
        twins: Mapping[int, Sequence[Path]] = _NO_TWINS,
    ) -> None:
        self._samples, self._labels, self._transform, self._twins = samples, labels, transform, twins

    def __len__(self) -> int:
        """Number of images."""
        return len(self._samples)

    def __getitem__(self, draw: Draw | int) -> Item:
        """Decode and transform one image.

        Args:
            draw: a row, or a row with the seed of the random transforms. The process's own random
                state is left as it was.

        Raises:
            ReidError: if the file cannot be decoded; the message holds its name.
        """
        if isinstance(draw, int):
            return self._item(draw)
        before = torch.get_rng_state()
        torch.default_generator.manual_seed(draw.seed)
        try:
            return self._item(draw.row)
        finally:
            torch.set_rng_state(before)

    def _item(self, row: int) -> Item:
        sample = self._samples[row]
        low = {scale: _readable(paths[row]) for scale, paths in self._twins.items()}
        made = self._transform(_readable(sample.path), low)
        return Item(made.image, self._labels[row], row, made.erased, made.scale, made.low)


def _readable(path: Path) -> Tensor:
    try:
        return read_image(path)
    except ReidError as error:
        raise ReidError(
            f"{error}; repair or remove it (DATASETS.CHECK_FILES True names all such files before anything runs, and "
            "leaves them out with DATASETS.ON_BAD_FILE skip)"
        ) from error


def collate(items: Sequence[Item]) -> Batch:
    """Stack items of one size into a batch."""
    images, labels, rows, boxes, scales, low = zip(*items, strict=True)
    return Batch(
        torch.stack(images),
        torch.tensor(labels),
        torch.tensor(rows),
        torch.tensor(boxes),
        torch.tensor(scales),
        {scale: torch.stack([images[scale] for images in low]) for scale in low[0]},
    )
