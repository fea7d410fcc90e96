"""Training images at the network's size in one file, for later epochs, all processes and later runs."""

import hashlib
import logging
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision
from torch import Tensor

from datasets.preprocessing import Preprocessing
from datasets.transforms import resize
from utils.errors import ReidError, one_line

logger = logging.getLogger(__name__)

_FORMAT = 1
_WORD = 8  # bytes of a checksum


class PixelCache:
    """The decoded and resized images of a data set, stored when they are first requested.

    The file has a record for each image: its (H, W, 3) uint8 pixels, zeros up to a whole word, and a checksum. A
    record without the right checksum is absent, so it does not matter which process wrote what at which moment, or
    how a process or the machine ended. Every access opens the file: processes share nothing but its pages in memory,
    and a write to a full disk is an error, where a store into a memory map would kill the process.

    Args:
        folder: of the file, whose name is a digest of what decides the pixels; created where it is absent.
        paths: of the images.
        preprocessing: size and interpolation.

    Raises:
        ReidError: if the folder cannot be written, or has too little space.
    """

    def __init__(self, folder: Path, paths: Sequence[Path], preprocessing: Preprocessing) -> None:
        self._preprocessing, self._shape = preprocessing, (*preprocessing.size, 3)
        self._bytes = math.prod(self._shape)
        self._record = -(-self._bytes // _WORD) * _WORD + _WORD
        self._is_full = False
        self.path = folder / f"{_digest(paths, preprocessing)}.pixels"
        self._create(len(paths) * self._record)

    def image(self, row: int, decode: Callable[[], Tensor]) -> Tensor:
        """One image at the network's size.

        Args:
            row: of the image.
            decode: gives its (3, h, w) uint8 pixels; called if they are not in the file.

        Returns:
            (3, H, W) uint8, in memory pixel after pixel.
        """
        image = self._load(row)
        if image is None:
            image = resize(decode(), self._preprocessing)
            self._store(row, image)
        return image

    def _create(self, size: int) -> None:
        """Bring the file to its size, whatever it held: wrong records are absent ones."""
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and self.path.stat().st_size == size:
                return
            if (free := shutil.disk_usage(folder).free) < size:
                raise ReidError(
                    f"DATASETS.CACHE_DIR must have {size} bytes free for the training images, but {folder} has "
                    f'{free}; name a folder on another disk, or set DATASETS.CACHE_DIR ""'
                )
            with self.path.open("ab") as file:
                file.truncate(size)
        except OSError as error:
            raise ReidError(
                f"DATASETS.CACHE_DIR must be a folder that can be written, got {folder} ({one_line(error)}); name "
                'another one, or set DATASETS.CACHE_DIR ""'
            ) from error
        logger.info("decoded training images: %s, %.2f GB when it is filled", self.path, size / 1e9)

    def _load(self, row: int) -> Tensor | None:
        record = np.empty(self._record, np.uint8)
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(row * self._record)
                size = file.readinto(record.data)
        except OSError:  # the folder was removed
            return None
        if size < self._record or _checksum(record) != record[-_WORD:].view(np.uint64)[0]:
            return None
        return torch.from_numpy(record[: self._bytes].reshape(self._shape)).permute(2, 0, 1)

    def _store(self, row: int, image: Tensor) -> None:
        if self._is_full:
            return
        record = np.zeros(self._record, np.uint8)
        record[: self._bytes] = image.permute(1, 2, 0).reshape(-1).numpy()
        record[-_WORD:].view(np.uint64)[0] = _checksum(record)
        try:
            with self.path.open("r+b", buffering=0) as file:
                file.seek(row * self._record)
                file.write(record.data)
        except OSError as error:
            self._is_full = True
            logger.warning("DATASETS.CACHE_DIR: no more images are stored (%s); training goes on", one_line(error))


def _checksum(record: np.ndarray) -> int:
    """The sum of the words before the last one; that of zeros is not zero, so a hole in the file is absent."""
    return (int(np.add.reduce(record[:-_WORD].view(np.uint64))) + 1) % 2**64


def _digest(paths: Sequence[Path], preprocessing: Preprocessing) -> str:
    """A hash of what decides the pixels: files, size, interpolation, and the code that decodes and resizes."""
    versions = (PIL.__version__, torch.__version__, torchvision.__version__, torch.backends.cpu.get_cpu_capability())
    digest = hashlib.sha256(repr((_FORMAT, versions, preprocessing.size, preprocessing.interpolation)).encode())
    for path in paths:
        status = path.stat()
        name = os.fsencode(os.path.abspath(path))  # noqa: PTH100 (resolve() asks the disk for each folder)
        digest.update(b"%s\0%d\0%d\0" % (name, status.st_size, status.st_mtime_ns))
    return digest.hexdigest()[:32]
