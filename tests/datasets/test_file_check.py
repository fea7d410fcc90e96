import logging
from pathlib import Path

import pytest
from PIL import Image

from datasets.file_check import check_files
from datasets.sample import ReidSplits, Sample
from utils.errors import ReidError


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_processes_find_what_one_finds(tmp_path: Path, workers: int, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = tmp_path / "good.png", [tmp_path / f"bad {number} 그림.png" for number in range(3)]
    Image.new("RGB", (2, 2)).save(good)
    for path in bad:
        path.write_text("no image")
    train = [Sample(good, 1, 1)] * 600  # enough for two processes
    for place, path in zip((0, 300, 599), bad, strict=True):
        train[place] = Sample(path, 2, 1)
    splits = ReidSplits("many", tuple(train), (Sample(good, 3, 1),), (Sample(good, 3, 2),))
    with pytest.raises(ReidError, match=r"3 of 602 images of many cannot be read: .*bad 0 .*bad 1 .*bad 2 .*skip$"):
        check_files(splits, "error", workers=workers)
    with caplog.at_level(logging.WARNING):
        kept = check_files(splits, "skip", workers=workers)
    assert kept.train == tuple(sample for sample in train if sample.path == good)
    assert (kept.query, kept.gallery) == (splits.query, splits.gallery)
    assert check_files(kept, "error", workers=workers) is kept
