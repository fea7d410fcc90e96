from pathlib import Path

import pytest
from PIL import Image

from datasets.convert.crops import GALLERY, QUERY, TRAIN, Box, Crop, Frame, write_crops


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
