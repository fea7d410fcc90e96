from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.low_resolution import (
    find_low_resolution_files,
    low_resolution_folder,
    low_resolution_sibling,
    usual_size,
)
from datasets.readers import read_dataset
from datasets.sample import ReidSplits, Sample
from makelr import main as makelr
from tests.datasets.support import touch
from utils.errors import ReidError


@pytest.fixture
def market(tmp_path: Path) -> ReidSplits:
    folder = tmp_path / "people"
    for name in ("bounding_box_train/0001_c1_1", "query/0002_c1_1", "bounding_box_test/0002_c2_1"):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), np.full((64, 32, 3), 90, np.uint8))
    assert makelr(["--scale", "2", "4", "--data_dir", str(folder), "--workers", "1"]) == 0
    return read_dataset(str(folder), tmp_path)


def test_each_image_has_the_file_of_its_name(market: ReidSplits, tmp_path: Path) -> None:
    files = find_low_resolution_files(market, (1, 2), (1, 4))
    assert files.train == {2: [tmp_path / "people_x2/bounding_box_train/0001_c1_1.png"]}
    names = ["query/0002_c1_1.png", "bounding_box_test/0002_c2_1.png"]
    assert files.test == {4: [tmp_path / "people_x4" / name for name in names]}


def test_usual_size_is_that_of_the_files(market: ReidSplits) -> None:
    files = find_low_resolution_files(market, (2,), (4,))
    assert (usual_size(files.train[2]), usual_size(files.test[4])) == ((32, 16), (16, 8))


def test_several_folders_each_have_their_own_copy(market: ReidSplits, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more_x2").mkdir()
    for folder in ("more", "more_x2"):
        cv2.imwrite(str(tmp_path / folder / "a.png"), np.zeros((16, 8, 3), np.uint8))
    splits = ReidSplits(
        "two",
        (Sample(tmp_path / "more/a.png", 7, 1), *market.train),
        (),
        (),
        (*market.folders, tmp_path / "more"),
    )
    assert find_low_resolution_files(splits, (2,), ()).train[2] == [
        tmp_path / "more_x2/a.png",
        tmp_path / "people_x2/bounding_box_train/0001_c1_1.png",
    ]


def test_pairs_have_the_same_name_within_the_folder(tmp_path: Path) -> None:
    names = ("query/b.jpg", "query/a.JPG", "deep/er/c.png", "d.bmp")
    low = touch(tmp_path / "data_x2", *names[1:])
    samples = tuple(Sample(tmp_path / "data" / name, 1, 1) for name in names)
    splits = ReidSplits("data", samples[1:], samples, (), (tmp_path / "data",))
    assert find_low_resolution_files(splits, (2,), ()).train == {2: [low / name for name in names[1:]]}
    with pytest.raises(ReidError, match=r"its file in .*data_x2, but 1 of 4 have none, first .*query/b\.jpg; run"):
        find_low_resolution_files(splits, (), (2,))


def test_the_copy_lies_beside_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "market1501"
    folder.mkdir()
    link = tmp_path / "links" / "market"
    link.parent.mkdir()
    link.symlink_to(folder)
    assert low_resolution_sibling(link, 4) == tmp_path / "links" / "market_x4"
    monkeypatch.chdir(folder)
    assert low_resolution_sibling(Path(), 2) == tmp_path / "market1501_x2"
    with pytest.raises(ReidError, match=r'x4 must exist.* python makelr\.py --scale 4 --data_dir ".*market1501"$'):
        low_resolution_folder(folder, 4)
    (tmp_path / "market1501_x4").mkdir()
    assert low_resolution_folder(folder, 4) == tmp_path / "market1501_x4"


def test_mistakes_are_named(market: ReidSplits, tmp_path: Path) -> None:
    with pytest.raises(ReidError, match=r"people_x8 must exist, but does not; make it: python makelr.py --scale 8"):
        find_low_resolution_files(market, (8,), ())
    (tmp_path / "people_x4/query/0002_c1_1.png").unlink()
    with pytest.raises(ReidError, match=r"1 of 2 have none, first .*0002_c1_1.png; run makelr.py"):
        find_low_resolution_files(market, (), (4,))
    nowhere = ReidSplits("list", (Sample(tmp_path / "far/a.png", 1, 1),), (), ())
    with pytest.raises(ReidError, match=r"1 of list lie elsewhere, first .*; set DATASETS\.LR_SOURCE online"):
        find_low_resolution_files(nowhere, (2,), ())
    stranger = ReidSplits("list", nowhere.train, (), (), market.folders)
    with pytest.raises(
        ReidError, match=r"below the data set's folder.*, but 1 of list lie elsewhere, first .*far/a.png"
    ):
        find_low_resolution_files(stranger, (2,), ())
