from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from datasets.readers import read_dataset
from datasets.readers.market import UNKNOWN_ID, MarketLayout, labels_of, parse_names, read_market_layout
from datasets.sample import Sample
from tests.datasets.support import touch
from utils.errors import ReidError

PATTERN = MarketLayout().pattern


def market(root: Path, train: tuple[str, ...] = ("0001_c1s1_000001_00.jpg", "0002_c1s1_000001_00.jpg")) -> Path:
    touch(root / "bounding_box_train", *train)
    touch(root / "query", "0003_c1s1_000001_00.jpg")
    touch(
        root / "bounding_box_test",
        "0003_c2s1_000001_00.jpg",
        "0000_c2s1_000002_00.jpg",
        "-1_c1s1_000003_00.jpg",
    )
    return root


def test_names_become_sorted_samples_without_junk(tmp_path: Path) -> None:
    names = ["0002_c1s1_000451_03.jpg", "-1_c3s2_1_1.jpg", "0000_c6s1_2_1.JPG", "-2_c1s1_1_1.jpg", "Thumbs.db", "._0001_c1s1_1_1.jpg",
             "0001_c12_f0046985.png"]  # fmt: skip
    samples, unmatched = parse_names(names, PATTERN, tmp_path)
    assert [(s.person_id, s.camera_id) for s in samples] == [(0, 6), (1, 12), (2, 1)]
    assert unmatched == []


def test_a_pattern_without_camera_gives_none(tmp_path: Path) -> None:
    samples, unmatched = parse_names(["0003_c2_1.jpg", "x.jpg"], r"(?P<id>-?\d+)_", tmp_path)
    assert (samples, unmatched) == ([Sample(tmp_path / "0003_c2_1.jpg", 3, 0)], ["x.jpg"])
    splits = read_market_layout(market(tmp_path), "x", MarketLayout(pattern=r"(?P<id>-?\d+)_"))
    assert (splits.cameras, splits.folders) == (False, (tmp_path,))


def test_only_the_name_counts_never_the_path(tmp_path: Path) -> None:
    root = market(tmp_path / "2023_c3 그림")
    splits = read_market_layout(root, "x")
    assert splits.query == (Sample(root / "query" / "0003_c1s1_000001_00.jpg", 3, 1),)
    assert {s.person_id for s in splits.train} == {1, 2}


def test_the_order_of_the_directory_does_not_matter(tmp_path: Path) -> None:
    names = [f"{i:04d}_c1s1_000001_00.jpg" for i in (5, 3, 9, 1)]
    market(tmp_path, tuple(names))
    assert [s.person_id for s in read_market_layout(tmp_path, "x").train] == [1, 3, 5, 9]


def test_images_that_do_not_fit_the_pattern_are_named(tmp_path: Path) -> None:
    market(tmp_path, ("0001_c1s1_000001_00.jpg", "holiday.jpg"))
    with pytest.raises(ReidError, match=r"1 are not: holiday\.jpg"):
        read_market_layout(tmp_path, "x")


def test_missing_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ReidError, match=r"data set folder .*bounding_box_train must exist"):
        read_market_layout(tmp_path, "x")
    touch(tmp_path / "bounding_box_train", "-1_c1s1_1_1.jpg")
    with pytest.raises(ReidError, match="must hold images with an identity"):
        read_market_layout(tmp_path, "x")


def test_a_test_needs_no_training_folder(tmp_path: Path) -> None:
    root = market(tmp_path)
    for file in (root / "bounding_box_train").iterdir():
        file.unlink()
    (root / "bounding_box_train").rmdir()
    assert read_market_layout(root, "x", with_train=False).train == ()


def test_data_sets_by_name_and_by_folder(tmp_path: Path) -> None:
    market(tmp_path / "market1501")
    assert read_dataset("market1501", tmp_path).name == "market1501"
    assert read_dataset(str(tmp_path / "market1501"), Path("/nowhere")).name == "market1501"
    with pytest.raises(ReidError, match=r"DATASETS\.NAMES must be one of market1501.*got 'market'"):
        read_dataset("market", tmp_path)
    with pytest.raises(ReidError, match=r"set DATASETS\.ROOT_DIR .*to the folder that contains market1501"):
        read_dataset("market1501", tmp_path / "nowhere")


def test_labels_come_from_names_alone() -> None:
    names = [
        "-1_c4s1_1.jpg",
        "-2_c5.jpg",
        "a/0012_c3s1.jpg",
        "0001_c2/photo.jpg",
        r"c:\x\0007_c6s1.jpg",
        "12.jpg",
        "",
    ]
    person_ids, camera_ids = labels_of(names)
    assert person_ids.tolist() == [-1, -2, 12, UNKNOWN_ID, 7, UNKNOWN_ID, UNKNOWN_ID]
    assert camera_ids.tolist() == [4, 5, 3, UNKNOWN_ID, 6, UNKNOWN_ID, UNKNOWN_ID]
    assert person_ids.dtype == camera_ids.dtype == np.int64
    assert [labels.shape for labels in labels_of([])] == [(0,), (0,)]


def test_numbers_beyond_64_bits_are_no_identity() -> None:
    ids, cameras = labels_of([f"{10**20}_c1.jpg", "0003_c2.jpg", f"3_c{10**20}.jpg"])
    assert ids.tolist() == [UNKNOWN_ID, 3, UNKNOWN_ID]
    assert cameras.tolist() == [UNKNOWN_ID, 2, UNKNOWN_ID]


@pytest.mark.realdata
def test_counts_of_market1501_come_out_exactly(workshop: Path, tmp_path: Path) -> None:
    for part, folder in (("train", "bounding_box_train"), ("query", "query"), ("test", "bounding_box_test")):
        names = (workshop / "data/market1501_names" / f"{part}.txt").read_text().split()
        touch(tmp_path / "market1501" / folder, *names)
    splits = read_dataset("market1501", tmp_path)
    counts = {
        part: (len({s.person_id for s in samples}), len(samples))
        for part, samples in (("train", splits.train), ("query", splits.query), ("gallery", splits.gallery))
    }
    assert counts == {"train": (751, 12_936), "query": (750, 3_368), "gallery": (751, 15_913)}
    assert sorted(Counter(s.camera_id for s in splits.gallery)) == [1, 2, 3, 4, 5, 6]


@pytest.mark.realdata
def test_counts_of_the_development_split(workshop: Path) -> None:
    splits = read_dataset(str(workshop / "data/cuhk03_dev"), Path())
    assert (len({s.person_id for s in splits.train}), len(splits.train)) == (567, 5_447)
    assert (len(splits.query), len(splits.gallery)) == (400, 1_518)
