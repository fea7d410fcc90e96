from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.convert.crops import GALLERY, QUERY, TRAIN, Box, Crop, Frame, write_crops
from tests.support import largest_file


@pytest.mark.parametrize("target", ["empty folder", "absent"])
def test_out_may_be_a_link(tmp_path: Path, target: str) -> None:
    Image.new("RGB", (20, 40)).save(tmp_path / "frame.png")
    crops = tuple(Crop(split, 1, "0001_c1.jpg", Box(0, 0, 10, 20)) for split in (TRAIN, QUERY, GALLERY))
    frames = [Frame(tmp_path / "frame.png", 40, 20, crops)]
    disk, out = tmp_path / "disk" / "PRW", tmp_path / "PRW"
    (disk if target == "empty folder" else disk.parent).mkdir(parents=True)
    out.symlink_to(disk)
    for _ in range(2):  # made, and found to be whole
        write_crops(frames, out, {"made_by": "a test"})
        assert out.is_symlink()
        assert sorted(path.relative_to(disk).as_posix() for path in disk.rglob("*.*")) == [
            *(f"{split}/0001_c1.jpg" for split in sorted((GALLERY, TRAIN))),
            *("convert.json", f"{QUERY}/0001_c1.jpg"),
        ]
    assert [path.name for path in disk.parent.iterdir()] == ["PRW"]


def test_a_crop_for_which_there_is_no_room_is_not_written_in_part(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "frame.png")
    crops = tuple(Crop(split, 1, "0001_c1.jpg", Box(0, 0, 20, 40)) for split in (TRAIN, QUERY, GALLERY))
    with largest_file(1000), pytest.raises(OSError, match="File too large"):
        write_crops([Frame(tmp_path / "frame.png", 40, 20, crops)], tmp_path / "PRW", {"made_by": "a test"})
    assert list(tmp_path.rglob("*.jpg")) == []
