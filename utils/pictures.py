"""Pictures for people: images fitted to tiles of one size, and PNG files."""

from pathlib import Path

import cv2
import numpy as np

from utils.files import written_aside
from utils.images import read_image

MAT = 236  # gray level around an image that does not fill its tile


def read_tile(path: str | Path, height: int, width: int) -> np.ndarray:
    """An image file fitted to a tile, its proportions kept, in the middle of a pale mat.

    Args:
        path: of the image.
        height: of the tile, in pixels.
        width: likewise.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        ReidError: if the file cannot be read.
    """
    image = read_image(path).permute(1, 2, 0).numpy()
    scale = min(height / image.shape[0], width / image.shape[1])
    tall, wide = (max(1, round(scale * side)) for side in image.shape[:2])
    top, left = (height - tall) // 2, (width - wide) // 2
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    tile = np.full((height, width, 3), MAT, np.uint8)
    tile[top : top + tall, left : left + wide] = cv2.resize(image, (wide, tall), interpolation=method)
    return tile


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write a picture (H, W, 3) uint8 RGB as a PNG file, whole or not at all."""
    with written_aside(path) as aside:
        aside.write_bytes(cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes())
