from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.readers import read_dataset
from datasets.sample import ReidSplits, Sample
from datasets.twins import find_twins, usual_size
from makelr import main as makelr
from utils.errors import ReidError


@pytest.fixture
def twinned(tmp_path: Path) -> ReidSplits:
    folder = tmp_path / "people"
    for name in ("bounding_box_train/0001_c1_1", "query/0002_c1_1", "bounding_box_test/0002_c2_1"):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), np.full((64, 32, 3), 90, np.uint8))
    assert makelr(["--scale", "2", "4", "--data_dir", str(folder), "--workers", "1"]) == 0
    return read_dataset(str(folder), tmp_path)


def test_each_image_has_the_file_of_its_name(twinned: ReidSplits, tmp_path: Path) -> None:
    twins = find_twins(twinned, (1, 2), (1, 4))
    assert twins.train == {2: [tmp_path / "people_x2/bounding_box_train/0001_c1_1.png"]}
    names = ["query/0002_c1_1.png", "bounding_box_test/0002_c2_1.png"]
    assert twins.test == {4: [tmp_path / "people_x4" / name for name in names]}


def test_usual_size_is_that_of_the_files(twinned: ReidSplits) -> None:
    twins = find_twins(twinned, (2,), (4,))
    assert (usual_size(twins.train[2]), usual_size(twins.test[4])) == ((32, 16), (16, 8))


def test_several_folders_each_have_their_own_twin(twinned: ReidSplits, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more_x2").mkdir()
    for folder in ("more", "more_x2"):
        cv2.imwrite(str(tmp_path / folder / "a.png"), np.zeros((16, 8, 3), np.uint8))
    joined = ReidSplits(
        "two",
        (Sample(tmp_path / "more/a.png", 7, 1), *twinned.train),
        (),
        (),
        (*twinned.folders, tmp_path / "more"),
    )
    assert find_twins(joined, (2,), ()).train[2] == [
        tmp_path / "more_x2/a.png",
        tmp_path / "people_x2/bounding_box_train/0001_c1_1.png",
    ]


def test_mistakes_are_named(twinned: ReidSplits, tmp_path: Path) -> None:
    with pytest.raises(ReidError, match=r"people_x8 must exist, but does not; make it: python makelr.py --scale 8"):
        find_twins(twinned, (8,), ())
    (tmp_path / "people_x4/query/0002_c1_1.png").unlink()
    with pytest.raises(ReidError, match=r"1 of 2 have none, first .*0002_c1_1.png; run makelr.py"):
        find_twins(twinned, (), (4,))
    nowhere = ReidSplits("list", (Sample(tmp_path / "far/a.png", 1, 1),), (), ())
    with pytest.raises(ReidError, match=r"those of list do not; set DATASETS\.LR_SOURCE online"):
        find_twins(nowhere, (2,), ())
    stranger = ReidSplits("list", nowhere.train, (), (), twinned.folders)
    with pytest.raises(ReidError, match=r"below the folders of list, got .*far/a.png"):
        find_twins(stranger, (2,), ())
