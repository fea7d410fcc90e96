"""The cameras of images, told to a network that has learned a vector for each of some cameras."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.readers.market import Names, labels_of
from utils.errors import ReidError

logger = logging.getLogger(__name__)

UNKNOWN = -1
CameraNumbers = Sequence[int] | NDArray[np.integer[Any]]


class KnownCameras:
    """The cameras that a network has learned, numbered from 0 on.

    Args:
        count: how many; 0 = the network does not look at cameras.
        first: number of the first one in the names of files.
    """

    def __init__(self, count: int, first: int = 1) -> None:
        self._count, self._first, self._logged = count, first, False

    def of_files(self, paths: Names) -> NDArray[np.int64]:
        """The cameras in the names of files, (N,) int64, -1 where a name has none.

        Raises:
            ReidError: for a camera that the network does not know.
        """
        self._check_network("TEST.CAMERAS True needs")
        numbers, last = labels_of(paths)[1], self._first + self._count - 1
        wrong = (numbers >= 0) & ((numbers < self._first) | (numbers > last))
        if wrong.any():
            row = int(wrong.argmax())
            raise ReidError(
                f"{paths[row : row + 1][0]} is of camera {numbers[row]}, but the network knows the cameras "
                f"{self._first} to {last}; set TEST.CAMERAS False if they are others, or MODEL.FIRST_CAMERA to the "
                "number of the first"
            )
        return np.where(numbers < 0, UNKNOWN, numbers - self._first)

    def places(self, cameras: CameraNumbers | None, num_images: int) -> Tensor | None:
        """What the network takes, (N,) int64; None if no camera is known, which the log says once.

        Args:
            cameras: of N images, from 0 on; -1 = unknown.
            num_images: N.

        Raises:
            ReidError: if the network does not look at cameras, or the numbers are not those of its cameras.
        """
        if cameras is None:
            if self._count and not self._logged:
                message = "cameras of the images: unknown, so the mean of the network's %d camera vectors counts"
                logger.info(message, self._count)
                self._logged = True
            return None
        self._check_network("cameras need")
        numbers = np.asarray(cameras)
        if numbers.shape != (num_images,) or (num_images and numbers.dtype.kind not in "iu"):
            got = f"{numbers.shape} {numbers.dtype}"
            raise ReidError(f"cameras must be one whole number for each of {num_images} images, got {got}")
        wrong = numbers[(numbers < UNKNOWN) | (numbers >= self._count)]
        if len(wrong):
            raise ReidError(
                f"cameras must be 0 to {self._count - 1}, as the network has learned them, or -1 (unknown), "
                f"got {wrong[0]}"
            )
        return torch.from_numpy(numbers.astype(np.int64))

    def _check_network(self, what: str) -> None:
        if not self._count:
            raise ReidError(
                f"{what} a network that looks at cameras (MODEL.CAMERAS above 0), got another; leave it out"
            )
