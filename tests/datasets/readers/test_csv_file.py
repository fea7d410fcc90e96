import os
import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from datasets.readers import read_dataset
from datasets.readers.csv_file import parse_csv, write_csv
from datasets.readers.records import ImageRecord
from datasets.sample import Sample
from tests.support import message_with, silent_log
from utils.errors import ReidError
from utils.files import absent_files


def table(folder: Path, text: str, *, make_images: bool = True, encoding: str = "utf-8") -> Path:
    file = folder / "my people.csv"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode(encoding))
    if make_images:
        for line in text.splitlines()[1:]:
            image = folder / line.split(",")[0].strip('"')
            image.parent.mkdir(parents=True, exist_ok=True)
            image.touch()
    return file


def test_columns_in_any_order_any_identity_and_windows_files(tmp_path: Path) -> None:
    text = "path,split, camera_id,person_id\r\nb/1.jpg,train,2,zoe\r\nb/2.jpg,query,1,김\r\n\r\n" \
        "a/3.jpg,gallery,12,김\r\n\"a/x,y.jpg\",test,3,\r\na/4.jpg,train,2,10\r\n"  # fmt: skip
    folder = tmp_path / "데이터 1_c1"
    file = table(folder, text.replace('"a/x,y.jpg"', "a/x y.jpg"), encoding="utf-8-sig")
    splits = read_dataset(str(file), Path("/nowhere"))
    assert splits.train == (Sample(folder / "a/4.jpg", 1, 2), Sample(folder / "b/1.jpg", 2, 2))
    assert splits.query == (Sample(folder / "b/2.jpg", 3, 1),)
    assert splits.gallery == (Sample(folder / "a/3.jpg", 3, 12), Sample(folder / "a/x y.jpg", 0, 3))
    assert (splits.name, splits.folders, splits.cameras) == ("my people", (folder,), True)
    assert read_dataset(str(file), Path(), with_train=False).query == splits.query


def test_identity_0_is_a_person_like_any_other(tmp_path: Path) -> None:
    file = table(tmp_path, "path,person_id,split\na.jpg,1,train\nb.jpg,0,query\nc.jpg,0,gallery\n")
    splits = read_dataset(str(file), Path())
    assert [s.person_id for s in (*splits.train, *splits.query, *splits.gallery)] == [2, 1, 1]
    assert not splits.cameras


def test_images_elsewhere_leave_no_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.jpg").touch()
    lines = [f"{tmp_path}/elsewhere.jpg,1,train", "b.jpg,2,query", "../data/c.jpg,2,gallery"]
    file = table(tmp_path / "data", "\n".join(["path,person_id,split", *lines]))
    splits = read_dataset(str(file), Path())
    assert splits.folders == ()
    assert [s.path for s in (*splits.train, *splits.gallery)] == [tmp_path / "elsewhere.jpg", tmp_path / "data/c.jpg"]
    file.write_text("\n".join(["path,person_id,split", lines[1], lines[2]]))
    assert read_dataset(str(file), Path(), with_train=False).folders == (tmp_path / "data",)


@pytest.mark.parametrize(
    "header", ["path|person_id", "path;id", "path", "path,person_id,camera", "path,person_id,path", ""]
)
def test_a_wrong_header_is_shown(tmp_path: Path, header: str) -> None:
    file = table(tmp_path, f"{header}\na.jpg,1\n", make_images=False)
    shown = header.replace(";", ",").replace("|", r"\|")
    with pytest.raises(ReidError, match=rf"must begin with the header path,person_id\[.*got '{shown}'"):
        read_dataset(str(file), Path())


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("gone.jpg,1,1,train", "line 3: no file .*gone.jpg"),
        ("no/folder.jpg,1,1,train", "line 3: no file .*no/folder.jpg"),
        ("./a.jpg,1,1,train", "line 3: .*a.jpg is on line 2 already"),
        ("b.jpg,1,1", "line 3: 3 cells instead of 4"),
        ("b.jpg,1,1,train,5", "line 3: 5 cells instead of 4"),
        (",1,1,train", "line 3: path is empty"),
        ("notes.txt,1,1,train", r"line 3: path must end like an image \(.*.bmp, .*\), got 'notes.txt'"),
        ("folder/,1,1,train", "line 3: path must end like an image .*, got 'folder/'"),
        ("b.jpg, ,1,train", "line 3: person_id is empty"),
        ("b.jpg,1,left,train", "line 3: camera_id must be a whole number from 0 on, .*got 'left'"),
        ("b.jpg,1,,train", "line 3: camera_id must be a whole number from 0 on, .*got ''"),
        ("b.jpg,1,1234567890123456789,train", "line 3: camera_id must be .* of 18 digits at most, got '1234567890"),
        ("b.jpg,1,1,Train", "line 3: split must be one of train, query, gallery, test, got 'Train'"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, fault: str) -> None:
    file = table(tmp_path, f"path,person_id,camera_id,split\na.jpg,1,1,train\n{line}\n", make_images=False)
    (tmp_path / "a.jpg").touch()
    with pytest.raises(ReidError, match=f"but 1 do not: {fault}.*; correct or remove them"):
        read_dataset(str(file), Path())


def test_a_test_needs_no_training_files(tmp_path: Path) -> None:
    text = "path,person_id,split\na/1.jpg,ann,train\nb/1.jpg,bob,query\nb/2.jpg,bob,gallery\n"
    file = table(tmp_path, text)
    whole = read_dataset(str(file), Path())
    shutil.rmtree(tmp_path / "a")
    alone = read_dataset(str(file), Path(), with_train=False)
    assert (alone.train, alone.query, alone.gallery) == ((), whole.query, whole.gallery)
    with pytest.raises(ReidError, match="but 1 do not: line 2: no file"):
        read_dataset(str(file), Path())
    (tmp_path / "b/2.jpg").unlink()
    with pytest.raises(ReidError, match="but 1 do not: line 4: no file"):
        read_dataset(str(file), Path(), with_train=False)


def test_a_test_of_a_drawn_split_needs_no_training_files(tmp_path: Path) -> None:
    lines = "".join(f"{person}/{shot}.jpg,{person}\n" for person in "abcd" for shot in range(2))
    file = table(tmp_path, f"path,person_id\n{lines}")
    whole = read_dataset(str(file), Path())
    for sample in whole.train:
        sample.path.unlink()
    assert read_dataset(str(file), Path(), with_train=False).gallery == whole.gallery
    whole.query[0].path.unlink()
    with pytest.raises(ReidError, match=r"but 1 do not: line .*: no file"):
        read_dataset(str(file), Path(), with_train=False)


def test_numbers_that_mean_something_in_market_names_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [f"{i}.jpg,{person},gallery\n" for i, person in enumerate(("-1", "-2", "0000", "0", "5"))]
    file = table(tmp_path, f"path,person_id,split\n{''.join(rows)}x.jpg,6,train\ny.jpg,5,query\n")
    assert len({s.person_id for s in read_dataset(str(file), Path()).gallery} - {0}) == 5
    assert message_with(caplog, "-1, -2, 0000 in my people", "let distractors have an empty person_id")


def test_many_bad_lines_are_counted(tmp_path: Path) -> None:
    lines = "".join(f"{i}.jpg,1\n" for i in range(7))
    file = table(tmp_path, f"path,person_id\n{lines}", make_images=False)
    with pytest.raises(ReidError, match=r"but 7 do not: line 2: .*line 3: .*line 4: [^:]*4?; correct"):
        read_dataset(str(file), Path())


def test_files_that_are_no_such_text(tmp_path: Path) -> None:
    file = table(tmp_path, "path,person_id\n김.jpg,1\n", make_images=False, encoding="cp949")
    with pytest.raises(ReidError, match=r"my people\.csv must be readable UTF-8 text, but:"):
        parse_csv(file)
    file = table(tmp_path, "path,person_id\n")
    with pytest.raises(ReidError, match="must list images below its header"):
        parse_csv(file)


@pytest.mark.parametrize("camera", [None, 3])
def test_what_is_written_is_read_again(tmp_path: Path, camera: int | None) -> None:
    images = [
        ImageRecord(f"{tmp_path}/a, b.jpg", 'x "y"', camera, "train"),
        ImageRecord("/elsewhere/1.jpg", "", camera, "gallery"),
    ]
    write_csv(tmp_path / "new.csv", images)
    assert list(parse_csv(tmp_path / "new.csv").values()) == sorted(images)
    assert '\n"a, b.jpg",' in (tmp_path / "new.csv").read_text().replace("\r", "")
    assert [path.name for path in tmp_path.iterdir()] == ["new.csv"]


def test_names_that_a_spreadsheet_would_compute_come_back(tmp_path: Path) -> None:
    images = [
        ImageRecord(f"{tmp_path}/=a/1.jpg", "=cmd", 0, "train"),
        ImageRecord(f"{tmp_path}/b.jpg", "-x", 0, "train"),
    ]
    write_csv(tmp_path / "split.csv", images)
    assert "\n'=a/1.jpg,'=cmd," in (tmp_path / "split.csv").read_text().replace("\r", "")
    assert list(parse_csv(tmp_path / "split.csv").values()) == images


@pytest.mark.parametrize(("sign", "name"), [(";", "shop.csv"), ("\t", "shop.csv"), ("\t", "shop.tsv")])
def test_semicolons_and_tabs_separate_cells_too(tmp_path: Path, sign: str, name: str) -> None:
    rows = [
        ("path", "person_id", "split"),
        ("a,b.jpg", "x", "train"),
        ("c.jpg", "y", "query"),
        ("d.jpg", "y", "gallery"),
    ]
    for path, *_ in rows[1:]:
        (tmp_path / path).touch()
    (tmp_path / name).write_text("\n".join(map(sign.join, rows)))
    splits = read_dataset(str(tmp_path / name), Path())
    assert [sample.path.name for sample in (*splits.train, *splits.test)] == ["a,b.jpg", "c.jpg", "d.jpg"]


def test_backslashes_between_folders_are_explained(tmp_path: Path) -> None:
    file = table(tmp_path, "path,person_id\nfolder\\a.jpg,1\n", make_images=False)
    with pytest.raises(ReidError, match=r"line 2: no file .*folder\\a\.jpg; correct .* folders in a path end with /"):
        read_dataset(str(file), Path())


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_characters="\0/", codec="utf-8"), min_size=1, max_size=20),
            st.text(st.characters(codec="utf-8"), min_size=1, max_size=10),
            st.binary(max_size=3),
        ),
        min_size=1,
        max_size=8,
    ),
    st.one_of(st.none(), st.integers(0, 10**18 - 1)),
)
def test_any_name_that_is_written_is_read_again(names: list[tuple[str, str, bytes]], camera: int | None) -> None:
    with TemporaryDirectory() as folder:
        images = {
            path: ImageRecord(path, person, camera, "train")
            for name, person, odd in names
            if (path := os.path.normpath(f"{folder}/{name}{os.fsdecode(odd.replace(bytes(1), b''))}x.jpg"))
            and path.startswith(f"{folder}/")
            and "/" not in path[len(folder) + 1 :]
            and not path[len(folder) + 1 :].startswith(".")
        }
        if images:
            write_csv(Path(folder, "new.csv"), images.values())
            assert list(parse_csv(Path(folder, "new.csv"), saved=True).values()) == sorted(images.values())


_CELLS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["a.jpg", "b/c.png", "x", "0", "1", "train", "query", "gallery", "test", "-1", '"', "9" * 40, ""]
    ),
)


@given(st.lists(st.lists(_CELLS, max_size=5).map(",".join), max_size=8), st.booleans())
@example(["\ud800"], False)
def test_no_text_ends_in_anything_but_an_error_of_ours(lines: list[str], headed: bool) -> None:
    with TemporaryDirectory() as folder, silent_log():
        file = Path(folder, "any.csv")
        text = "\n".join((["path,person_id,camera_id,split"] if headed else []) + lines)
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        for name in ("a.jpg", "b/c.png"):
            Path(folder, name).parent.mkdir(exist_ok=True)
            Path(folder, name).touch()
        with suppress(ReidError):
            read_dataset(str(file), Path(folder))


def test_absent_files(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    paths = [f"{tmp_path}/{name}" for name in ("a", "b", "no/a")]
    assert absent_files(paths) == [path for path in paths if not Path(path).exists()]
