from pathlib import Path

import cv2
import numpy as np
import pytest

from utils.errors import ReidError
from utils.pictures import MAT, read_tile, write_png


@pytest.mark.parametrize("size", [(128, 64), (40, 90), (300, 150), (1, 1), (700, 20)])
def test_a_tile_keeps_proportions_and_centres(tmp_path: Path, size: tuple[int, int]) -> None:
    write_png(tmp_path / "a.png", np.zeros((*size, 3), np.uint8))
    tile = read_tile(tmp_path / "a.png", 100, 50)
    assert tile.shape == (100, 50, 3)
    assert tile.dtype == np.uint8
    rows, columns = ((tile == 0).all(axis=2).any(axis=axis).nonzero()[0] for axis in (1, 0))
    tall, wide = len(rows), len(columns)
    assert tall == 100 or wide == 50
    assert abs(tall * size[1] - wide * size[0]) <= max(size)  # to a pixel
    assert abs(rows[0] - (99 - rows[-1])) <= 1
    assert abs(columns[0] - (49 - columns[-1])) <= 1
    assert (tile == MAT).all(axis=2).sum() == 100 * 50 - tall * wide


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReidError, match=r"cannot read image .*gone\.jpg"):
        read_tile(tmp_path / "gone.jpg", 8, 8)


def test_a_png_holds_the_pixels(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    write_png(tmp_path / "new" / "a.png", picture)
    image = cv2.imread(str(tmp_path / "new" / "a.png"))
    assert image is not None
    np.testing.assert_array_equal(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), picture)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]
