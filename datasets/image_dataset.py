"""Samples as a torch data set, with random transforms that depend on the index's seed alone."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datasets.batch import UNKNOWN_CAMERA, Batch, Item, SeededIndex
from datasets.sample import Sample
from datasets.transforms import TransformedImage
from utils.errors import ReidError
from utils.images import read_image

_NO_FILES: Mapping[int, Sequence[Path]] = MappingProxyType({})


class ImageDataset(Dataset[Item]):
    """Images on disk with their labels.

    Args:
        samples: files, identities, cameras.
        labels: one whole number per sample.
        transform: (3, h, w) uint8 and its low-resolution files by scale -> all at one size (3, H, W), and what the
            device does with them.
        low_resolution: scale -> the low-resolution file of each sample; empty if the device lowers the resolution.
        first_camera: number of the camera that the network knows as its first; None = it is not told any.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        labels: Sequence[int],
        transform: Callable[[Tensor, Mapping[int, Tensor]], TransformedImage],
        low_resolution: Mapping[int, Sequence[Path]] = _NO_FILES,
        first_camera: int | None = None,
    ) -> None:
        self._samples, self._labels, self._transform = samples, labels, transform
        self._low_resolution, self._first_camera = low_resolution, first_camera

    def __len__(self) -> int:
        """Number of images."""
        return len(self._samples)

    def __getitem__(self, index: SeededIndex | int) -> Item:
        """Decode and transform one image.

        Args:
            index: a row, or a row with the seed of the random transforms. The random state of the process does not
                change.

        Raises:
            ReidError: if the file cannot be decoded; the message holds its name.
        """
        if isinstance(index, int):
            return self._item(index)
        before = torch.get_rng_state()
        torch.default_generator.manual_seed(index.seed)
        try:
            return self._item(index.row)
        finally:
            torch.set_rng_state(before)

    def _item(self, row: int) -> Item:
        files = {scale: _decode(paths[row]) for scale, paths in self._low_resolution.items()}
        sample, first = self._samples[row], self._first_camera
        image, box, scale, low, low_by_scale = self._transform(_decode(sample.path), files)
        camera = UNKNOWN_CAMERA if first is None else sample.camera_id - first
        return Item(image, self._labels[row], row, box, scale, low, low_by_scale, camera)


def _decode(path: Path) -> Tensor:
    try:
        return read_image(path)
    except ReidError as error:
        raise ReidError(
            f"{error}; repair or remove it (DATASETS.CHECK_FILES True names all such files before anything runs, and "
            "leaves them out with DATASETS.ON_BAD_FILE skip)"
        ) from error


def collate(items: Sequence[Item]) -> Batch:
    """Stack items of one size into a batch."""
    images, labels, rows, boxes, scales, low, low_by_scale, cameras = zip(*items, strict=True)
    return Batch(
        _stacked(images),
        torch.tensor(labels),
        torch.tensor(rows),
        torch.tensor(boxes),
        torch.tensor(scales),
        None if low[0] is None else _stacked(low),
        {scale: _stacked([files[scale] for files in low_by_scale]) for scale in low_by_scale[0]},
        torch.tensor(cameras),
    )


def _stacked(images: Sequence[Tensor]) -> Tensor:
    """(N, 3, H, W), in memory pixel after pixel (channels last) as the decoder writes them: nothing is reordered."""
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)
