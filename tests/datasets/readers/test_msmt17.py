from pathlib import Path

import pytest

from datasets.checks import check_train
from datasets.readers import read_dataset
from datasets.sample import Sample
from utils.errors import ReidError

LISTS = {
    "train": ["0000/0000_000_01_0303morning_0008_0.jpg 0", "0001/0001_000_15_0303noon_0008_0.jpg 1"],
    "val": ["0001/0001_003_02_0303noon_0009_0.jpg 1"],
    "query": ["0000/0000_000_05_0303morning_0020_0.jpg 0", "0002/0002_000_07_0303morning_0020_0.JPG 2"],
    "gallery": ["0000/0000_001_06_0303morning_0020_1.jpg 0", "", "0002/0002_001_08_0303 noon_0020_1.jpg 2"],
}


def release(root: Path, folders: tuple[str, str] = ("train", "test")) -> Path:
    data = root / "MSMT17"
    for part, lines in LISTS.items():
        data.mkdir(parents=True, exist_ok=True)
        (data / f"list_{part}.txt").write_text("\r\n".join(lines) + "\r\n")
        for line in filter(None, lines):
            file = data / folders[part in ("query", "gallery")] / line.rpartition(" ")[0]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    return data


def labels(samples: tuple[Sample, ...]) -> list[tuple[int, int]]:
    return [(s.person_id, s.camera_id) for s in samples]


@pytest.mark.parametrize("folders", [("train", "test"), ("mask_train_v2", "mask_test_v2")])
def test_identities_begin_at_1_and_train_follows_the_test(tmp_path: Path, folders: tuple[str, str]) -> None:
    data = release(tmp_path / "그림 1_c1", folders)
    splits = read_dataset("msmt17", data.parent)
    assert labels(splits.query) == [(1, 5), (3, 7)]
    assert labels(splits.gallery) == [(1, 6), (3, 8)]
    assert labels(splits.train) == [(4, 1), (5, 15), (5, 2)]
    assert (splits.name, splits.folders, splits.cameras) == ("msmt17", (data,), True)
    assert all(s.path.is_file() for s in (*splits.train, *splits.query, *splits.gallery))
    assert len(check_train(splits, 2, 2)) == 1  # the person with one image, and no identity in common
    assert read_dataset(str(data), Path()).gallery == splits.gallery


def test_a_test_needs_no_training_files(tmp_path: Path) -> None:
    data = release(tmp_path)
    whole = read_dataset("msmt17", tmp_path)
    (data / "train").rename(tmp_path / "elsewhere")
    (data / "list_train.txt").unlink()
    splits = read_dataset("msmt17", tmp_path, with_train=False)
    assert (splits.train, splits.query) == ((), whole.query)


def test_files_that_no_list_names_do_not_count(tmp_path: Path) -> None:
    data = release(tmp_path)
    whole = read_dataset("msmt17", tmp_path)
    for file in (
        "test/0000/Thumbs.db",
        "test/0000/0000_009_06_0303morning_0020_1.jpg",
        "train/0009/x.jpg",
        "test/a.jpg",
    ):
        (data / file).parent.mkdir(exist_ok=True)
        (data / file).touch()
    (data / "list_extra.txt").write_text("x\n")
    assert read_dataset("msmt17", tmp_path) == whole


def test_what_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReidError, match=r"set DATASETS\.ROOT_DIR .*to the folder that contains MSMT17"):
        read_dataset("msmt17", tmp_path)
    data = release(tmp_path)
    (data / "test/0000/0000_001_06_0303morning_0020_1.jpg").unlink()
    with pytest.raises(ReidError, match=r"but 1 do not: .*0000_001_06_0303morning_0020_1\.jpg; unpack"):
        read_dataset("msmt17", tmp_path)
    (data / "list_val.txt").write_text("0001/0001_003_02_0303noon_0009_0.jpg 1\nholiday.jpg 4\n")
    with pytest.raises(ReidError, match=r"list_val\.txt line 2 must read like .*got 'holiday\.jpg 4'"):
        read_dataset("msmt17", tmp_path)
    (data / "list_val.txt").write_text("\n")
    with pytest.raises(ReidError, match=r"list_val\.txt must name images, but is empty"):
        read_dataset("msmt17", tmp_path)
    (data / "list_query.txt").unlink()
    with pytest.raises(ReidError, match=r"list_query\.txt must exist"):
        read_dataset("msmt17", tmp_path)
