import os
from collections import Counter
from pathlib import Path

import pytest

from datasets.readers import READERS, read_dataset
from datasets.sample import ReidSplits
from datasets.splits import check_test
from utils.errors import ReidError

ODD = ("Thumbs.db", "._0001_c1s1_000001_00.jpg", "-1_c1s1_000003_00.jpg", "-2_c1s1_000003_00.jpg")
MARKET = {
    "bounding_box_train": ("0007_c1s1_000151_00.jpg", "0002_c6s1_000151_00.JPEG", *ODD),
    "query": ("0003_c1s1_000151_00.jpg", "0004_c2s1_000151_00.Png", *ODD),
    "bounding_box_test": ("0003_c2s1_000176_00.jpg", "0004_c6s1_000151_00.jpg", "0000_c3s1_000201_00.jpg", *ODD),
}
DUKE = {
    "bounding_box_train": ("0005_c2_f0046985.jpg", "0001_c8_f0046985.jpg"),
    "query": ("0006_c1_f0000001.jpg",),
    "bounding_box_test": ("0006_c2_f0000001.jpg", "0099_c12_f0000001.jpg"),
}


def make(folder: Path, parts: dict[str, tuple[str, ...]]) -> Path:
    for part, names in parts.items():
        (folder / part).mkdir(parents=True)
        for name in names:
            (folder / part / name).touch()
    return folder


def labels(splits: ReidSplits) -> dict[str, list[tuple[int, int]]]:
    parts = {"train": splits.train, "query": splits.query, "gallery": splits.gallery}
    return {part: [(s.person_id, s.camera_id) for s in samples] for part, samples in parts.items()}


@pytest.mark.parametrize(
    ("name", "folder"),
    [("market1501", "market1501"), ("cuhk03", "cuhk03"), ("PRW", "PRW"), ("PRW", "PRW_reid")],
)
def test_market_layouts_leave_out_junk_ambiguous_and_other_files(tmp_path: Path, name: str, folder: str) -> None:
    root = tmp_path / "2023_c3 그림"
    data = make(root / folder, MARKET)
    splits = read_dataset(name, root)
    assert labels(splits) == {
        "train": [(2, 6), (7, 1)],
        "query": [(3, 1), (4, 2)],
        "gallery": [(0, 3), (3, 2), (4, 6)],
    }
    assert (splits.name, splits.folders, splits.cameras) == (name, (data,), True)
    assert read_dataset(name, root, with_train=False).train == ()


def test_duke_names(tmp_path: Path) -> None:
    make(tmp_path / "DukeMTMC-reID", DUKE)
    assert labels(read_dataset("dukemtmcreid", tmp_path)) == {
        "train": [(1, 8), (5, 2)],
        "query": [(6, 1)],
        "gallery": [(6, 2), (99, 12)],
    }


def test_mot17_has_no_cameras_and_so_no_camera_rule(tmp_path: Path) -> None:
    parts = {
        "bounding_box_train": ("20001_c1_000001.jpg",),
        "query": ("40001_c1_000001.jpg",),
        "bounding_box_test": ("40001_c1_000010.jpg", "40002.jpg"),
    }
    make(tmp_path / "MOT17_reid", parts)
    with pytest.raises(ReidError, match=r"1 are not: 40002\.jpg"):
        read_dataset("MOT17", tmp_path)
    (tmp_path / "MOT17_reid/bounding_box_test/40002.jpg").unlink()
    splits = read_dataset("MOT17", tmp_path)
    assert labels(splits) == {"train": [(20001, 0)], "query": [(40001, 0)], "gallery": [(40001, 0)]}
    assert not splits.cameras
    assert check_test(splits, camera_rule=True) == []


def test_a_wrong_name_lists_the_right_ones_and_the_nearest(tmp_path: Path) -> None:
    assert list(READERS) == ["market1501", "dukemtmcreid", "msmt17", "cuhk03", "PRW", "MOT17"]
    for wrong, right in (("prw", "PRW"), ("Market1501", "market1501"), ("duke_mtmc_reid", "dukemtmcreid")):
        with pytest.raises(
            ReidError, match=rf"market1501, .*MOT17, an existing folder.*'{wrong}'; did you mean '{right}'"
        ):
            read_dataset(wrong, tmp_path)
    with pytest.raises(ReidError, match=r"existing \.csv file, got 'gone\.csv'$"):
        read_dataset("gone.csv", tmp_path)
    with pytest.raises(
        ReidError, match=r"data set PRW must lie in .*PRW, which does not exist; set DATASETS\.ROOT_DIR"
    ):
        read_dataset("PRW", tmp_path)


def test_opening_reads_each_folder_once_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(tmp_path / "market1501", MARKET)
    listed: Counter[str] = Counter()
    stated: Counter[str] = Counter()
    listdir, stat = os.listdir, os.stat

    def counting_listdir(folder: str | Path) -> list[str]:
        listed[str(folder)] += 1
        return listdir(folder)

    def counting_stat(path: str | Path, **options: bool) -> os.stat_result:
        stated[str(path)] += 1
        return stat(path, **options)

    monkeypatch.setattr(os, "listdir", counting_listdir)
    monkeypatch.setattr(os, "stat", counting_stat)
    read_dataset("market1501", tmp_path)
    assert listed == {str(data / part): 1 for part in MARKET}
    assert not [path for path in stated if Path(path).suffix]


@pytest.mark.slow
@pytest.mark.realdata
def test_counts_of_market1501_as_folders_of_identities(workshop: Path, tmp_path: Path) -> None:
    for part, split in (("train", "train"), ("query", "query"), ("test", "gallery")):
        names = (workshop / "data/market1501_names" / f"{part}.txt").read_text().split()
        for person in {name.partition("_")[0] for name in names}:
            (tmp_path / split / person).mkdir(parents=True)
        for name in names:
            os.close(os.open(f"{tmp_path}/{split}/{name.partition('_')[0]}/{name}", os.O_CREAT))
    splits = read_dataset(str(tmp_path), Path())
    counted = [(len({s.person_id for s in part}), len(part)) for part in (splits.train, splits.query, splits.gallery)]
    assert counted == [(751, 12_936), (750, 3_368), (751, 15_913)]
    assert sum(s.person_id == 0 for s in splits.gallery) == 2_798
    assert {s.camera_id for s in splits.gallery} == {1, 2, 3, 4, 5, 6}
