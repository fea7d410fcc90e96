import gc
import os
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.checks import check_test
from datasets.readers import READERS, read_dataset
from datasets.sample import ReidSplits
from inference.images import list_images
from tests.datasets.support import touch
from tests.support import message_with, silent_log
from utils.errors import ReidError
from utils.files import absent_files

ODD = ("Thumbs.db", "._0001_c1s1_000001_00.jpg", "-1_c1s1_000003_00.jpg", "-2_c1s1_000003_00.jpg")
MARKET = {
    "bounding_box_train": ("0007_c1s1_000151_00.jpg", "0002_c6s1_000151_00.JPEG", *ODD),
    "query": ("0003_c1s1_000151_00.jpg", "0004_c2s1_000151_00.Png", *ODD),
    "bounding_box_test": ("0003_c2s1_000176_00.jpg", "0004_c6s1_000151_00.jpg", "0000_c3s1_000201_00.jpg", *ODD),
}
DUKE_ODD = ("Thumbs.db", "._0005_c2_f0046985.jpg", "-1_c2_f0046985.jpg", "readme.txt")
DUKE = {
    "bounding_box_train": ("0005_c2_f0046985.jpg", "0001_c8_f0046985 copy.JPG", *DUKE_ODD),
    "query": ("0006_c1_f0000001.Png", *DUKE_ODD),
    "bounding_box_test": ("0006_c2_f0000001.jpeg", "0099_c12_f0000001.jpg", "0000_c3_f0000001.jpg", *DUKE_ODD),
}
MOT17 = {
    "bounding_box_train": ("020001_c1s2_000001.jpg", "020002_c1s2_000001.PNG", "-1_c1s2_000001.jpg", "seqinfo.ini"),
    "query": ("040001_c1s4_000001.JPG", "-1_c1s4_000001.jpg", "._040001_c1s4_000001.jpg"),
    "bounding_box_test": ("040001_c1s4_000010 2.jpeg", "0000_c1s4_000001.jpg", "-1_c1s4_000001.jpg", "Thumbs.db"),
}


def make(folder: Path, parts: dict[str, tuple[str, ...]]) -> Path:
    return touch(folder, *(f"{part}/{name}" for part, names in parts.items() for name in names))


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
    root = tmp_path / "2023_c3 그림"
    data = make(root / "DukeMTMC-reID", DUKE)
    splits = read_dataset("dukemtmcreid", root)
    assert labels(splits) == {
        "train": [(1, 8), (5, 2)],
        "query": [(6, 1)],
        "gallery": [(0, 3), (6, 2), (99, 12)],
    }
    assert (splits.name, splits.folders, splits.cameras) == ("dukemtmcreid", (data,), True)
    assert labels(read_dataset(str(data), Path())) == labels(splits)


def test_mot17_names(tmp_path: Path) -> None:
    root = tmp_path / "2023_c3 그림"
    make(root / "MOT17_reid", MOT17)
    assert labels(read_dataset("MOT17", root)) == {
        "train": [(20001, 0), (20002, 0)],
        "query": [(40001, 0)],
        "gallery": [(0, 0), (40001, 0)],
    }


@pytest.mark.parametrize(
    ("mark", "cameras"),
    [
        ('{"made_by": "datasets.convert mot17", "every": 10}', False),
        ('{"made_by": "datasets.convert dancetrack"}', False),
        ('{"made_by": "datasets.convert prw"}', True),
        ("[" * 100_000, True),
        ("[1]", True),
        ("{half", True),
    ],
)
def test_a_converted_mot17_is_known_by_its_mark(tmp_path: Path, mark: str, cameras: bool) -> None:
    data = make(tmp_path / "my videos", MOT17)
    (data / "convert.json").write_text(mark)
    assert read_dataset(str(data), Path()).cameras is cameras


def test_a_source_of_training_needs_no_test(tmp_path: Path) -> None:
    data = make(tmp_path / "market1501", {"bounding_box_train": MARKET["bounding_box_train"]})
    splits = read_dataset("market1501", tmp_path)
    assert labels(splits) == {"train": [(2, 6), (7, 1)], "query": [], "gallery": []}
    with pytest.raises(
        ReidError, match=r"market1501 has 0 query and 0 gallery images; add its folders, or set DATASETS\.TEST_NAMES"
    ):
        check_test(splits, camera_rule=True)
    with pytest.raises(ReidError, match=r"data set folder .*query must exist, but does not"):
        read_dataset("market1501", tmp_path, with_train=False)
    make(data, {"bounding_box_test": MARKET["bounding_box_test"]})
    with pytest.raises(ReidError, match=r"data set folder .*query must exist, but does not"):
        read_dataset("market1501", tmp_path)


def test_a_link_names_its_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(tmp_path / "store/v2", MARKET)
    (tmp_path / "shop").symlink_to(data)
    assert read_dataset(f"{tmp_path}/shop/", Path()).name == "shop"
    monkeypatch.chdir(data)
    assert read_dataset(".", Path()).name == "v2"


@pytest.mark.parametrize("name", ["", "  "])
def test_no_name_is_not_the_current_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ReidError, match=f"must name a data set, a folder or a .csv file, got '{name}'; see docs"):
        read_dataset(name, tmp_path)


def test_reading_leaves_the_garbage_collector_as_it_was(tmp_path: Path) -> None:
    make(tmp_path / "market1501", MARKET)
    for set_up in (gc.disable, gc.enable):
        set_up()
        before = gc.isenabled()
        read_dataset("market1501", tmp_path)
        with pytest.raises(ReidError):
            read_dataset("market", tmp_path)
        assert gc.isenabled() is before


def test_the_examples_of_the_docs_work_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[3] / "docs/datasets.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    for name in ("shop", "yard"):
        monkeypatch.setitem(READERS, name, None)  # to be taken out again
    for block in blocks:
        exec(compile(block, "docs/datasets.md", "exec"), {})
    people = {part: (f"person{i}_cam{4 + i}.jpg",) for i, part in enumerate(("train", "probe", "gallery"), start=1)}
    make(tmp_path / "shop", people)
    assert labels(read_dataset("shop", tmp_path)) == {"train": [(1, 5)], "query": [(2, 6)], "gallery": [(3, 7)]}
    make(tmp_path / "yard", {"gate": ("train-17-1.png", "query-18-2.png"), "door": ("gallery-18-3.png",)})
    assert labels(read_dataset("yard", tmp_path)) == {"train": [(17, 0)], "query": [(18, 0)], "gallery": [(18, 1)]}
    assert read_dataset("yard", tmp_path, with_train=False).train == ()


def test_mot17_has_no_cameras_and_so_no_camera_rule(tmp_path: Path) -> None:
    parts = {
        "bounding_box_train": ("20001_c1_000001.jpg",),
        "query": ("40001_c1_000001.jpg",),
        "bounding_box_test": ("40001_c1_000010.jpg", "40002.jpg"),
    }
    make(tmp_path / "MOT17_reid", parts)
    with pytest.raises(ReidError, match=r"1 are not: 40002\.jpg"):
        read_dataset("MOT17", tmp_path)
    (tmp_path / "MOT17_reid/bounding_box_test/40002.jpg").rename(
        tmp_path / "MOT17_reid/bounding_box_test/40002_1.jpg"
    )
    splits = read_dataset("MOT17", tmp_path)
    assert labels(splits) == {"train": [(20001, 0)], "query": [(40001, 0)], "gallery": [(40001, 0), (40002, 0)]}
    assert not splits.cameras
    assert check_test(splits, camera_rule=True) == []


def test_a_name_is_looked_for_beside_the_code_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "data" / "mine", MARKET)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert read_dataset("mine", Path("../data")).query[0].path.is_relative_to(Path("../data"))
    (tmp_path / "data" / "mine.csv").write_text("path,person_id,split\na.jpg,a,query\nb.jpg,a,gallery\n")
    touch(tmp_path / "data", "a.jpg", "b.jpg")
    assert len(read_dataset("mine.csv", Path("../data"), with_train=False).test) == 2
    make(Path("mine"), MARKET)
    assert read_dataset("mine", Path("../data")).query[0].path.is_relative_to(Path("mine"))


def test_names_that_are_no_utf8_are_read_and_split(tmp_path: Path) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    for person in ("\udce9ve ", " bob", "eve"):
        touch(root / person, *(f"{shot}\udcff.jpg" for shot in range(3)))
    with silent_log():
        first = read_dataset(str(root), Path())
        assert len(first.train) == 6
        assert read_dataset(str(root), Path()) == first


@pytest.mark.parametrize("file", ["bounding_box_test/{}_c1s1.jpg", "query/0003_c{}s1.jpg"])
def test_numbers_beyond_64_bits_are_refused_where_they_are_read(tmp_path: Path, file: str) -> None:
    make(tmp_path / "data", MARKET)
    touch(tmp_path / "data", file.format(10**20))
    with pytest.raises(ReidError, match=f"18 digits at most.*1 are not: .*{10**20}.*rename or remove"):
        read_dataset(str(tmp_path / "data"), Path())


def test_files_of_other_endings_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path / "data", MARKET)
    touch(tmp_path / "data/query", "0003_c1.heic", "0004_c1.HEIC", "note", "0003_c1.JFIF", "0004_c1.ppm")
    touch(tmp_path / "data/query/more", "0003_c3s1.jpg")
    assert {"0003_c1.JFIF", "0004_c1.ppm"} < {s.path.name for s in read_dataset(str(tmp_path / "data"), Path()).query}
    assert message_with(caplog, "4 files of", "query", "2 .heic", "1 no ending", "1 folders")


_NAMES = st.one_of(
    st.text(st.characters(exclude_characters="\0/", codec="utf-8"), min_size=1, max_size=20).map(str.encode),
    st.binary(min_size=1, max_size=12).map(lambda name: name.replace(b"\0", b"x").replace(b"/", b"\\")),
    st.sampled_from(
        [b"0001_c1s1.jpg", b"-1_c1.png", b"0000_c2.gif", b"0002_c1_0.JFIF", b"12_c" + b"9" * 30 + b".jpg"]
    ),
    st.sampled_from(
        [b"train", b"query", b"Gallery", b"test", b"0001", b"-1", b"0000", b"bounding_box_test", b"a\\b.jpg"]
    ),
)


@given(
    st.lists(st.lists(_NAMES.filter(lambda name: name not in (b".", b"..")), min_size=1, max_size=3), max_size=12),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_no_names_of_files_end_in_anything_but_an_error_of_ours(paths: list[list[bytes]], market: bool) -> None:
    with TemporaryDirectory() as folder, silent_log():
        for parts in paths:
            inner = [b"bounding_box_train", b"query", b"bounding_box_test"][len(parts[0]) % 3 :][:1] if market else []
            with suppress(OSError):  # a file where a folder is wanted
                touch(Path(folder), os.fsdecode(b"/".join([*inner, *parts])))
        for with_train in (True, False, True):
            with suppress(ReidError):
                read_dataset(folder, Path(folder), with_train=with_train)
        for subfolders in (True, False):
            with suppress(ReidError):
                paths_of_images = list_images(folder, subfolders=subfolders).paths
                assert not absent_files(paths_of_images.tolist())


def test_a_wrong_name_lists_the_right_ones_and_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ReidError) as error:
        read_dataset("nothing like it", tmp_path)
    assert all(f" {name}," in str(error.value) for name in READERS)
    for wrong, right in (("prw", "PRW"), ("Market1501", "market1501"), ("duke_mtmc_reid", "dukemtmcreid")):
        with pytest.raises(
            ReidError, match=rf"market1501, .*MOT17, an existing folder.*'{wrong}'; did you mean {right}\?"
        ):
            read_dataset(wrong, tmp_path)
    with pytest.raises(ReidError, match=r"existing \.csv file, here or in .*, got 'gone\.csv'$"):
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
    counts = [(len({s.person_id for s in part}), len(part)) for part in (splits.train, splits.query, splits.gallery)]
    assert counts == [(751, 12_936), (750, 3_368), (751, 15_913)]
    assert sum(s.person_id == 0 for s in splits.gallery) == 2_798
    assert {s.camera_id for s in splits.gallery} == {1, 2, 3, 4, 5, 6}
