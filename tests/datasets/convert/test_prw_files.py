from pathlib import Path

import pytest
from PIL import Image

from datasets.convert.prw_files import read_frame, read_queries
from utils.errors import ReidError


def test_a_missing_annotation_is_named_as_missing(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    Image.new("RGB", (20, 40)).save(tmp_path / "frames" / "c1s1_000151.jpg")
    path = tmp_path / "annotations" / "c1s1_000151.jpg.mat"
    assert read_frame("c1s1_000151", tmp_path) == f"cannot read annotation {path}: no such file"


@pytest.mark.parametrize("size", ["0 30", "15 0", "-4 30", "15 -1"])
def test_a_query_without_area_is_damage(tmp_path: Path, size: str) -> None:
    path = tmp_path / "query_info.txt"
    path.write_text(f"3 20 10 15 30 c3s2_000451\n4 20 10 {size} c3s2_000451\n")
    with pytest.raises(
        ReidError,
        match=rf"with w and h above 0, got '4 20 10 {size} c3s2_000451' in line 2; unpack the release again",
    ):
        read_queries(path)
