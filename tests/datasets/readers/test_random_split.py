import logging
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.checks import check_test
from datasets.readers import random_split, read_dataset
from datasets.readers.random_split import draw_split
from datasets.readers.records import NOBODY, ImageRecord
from tests.datasets.support import touch
from tests.support import message_with
from utils.errors import ReidError


def people(root: Path, count: int = 6, images: int = 3, part: str = "") -> Path:
    return touch(root, *(f"{part}p{person}/{image}.jpg" for person in range(count) for image in range(images)))


def image(number: int, person: int, camera: int | None, split: str = "") -> ImageRecord:
    return ImageRecord(f"/d/{number:04d}.jpg", f"p{person}" if person else NOBODY, camera, split)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3)), min_size=1, max_size=40),
    st.booleans(),
    st.integers(0, 9),
)
def test_a_drawn_split_keeps_its_promises(labels: list[tuple[int, int]], cameras: bool, seed: int) -> None:
    images = [image(i, person, camera if cameras else None) for i, (person, camera) in enumerate(labels)]
    people = {i.person for i in images} - {NOBODY}
    try:
        split = draw_split(images, seed)
    except ReidError:
        assert len(people) < 2 or max(Counter(i.person for i in images if i.person != NOBODY).values()) < 2
        return
    cameras_of = {p: {i.camera for i in images if i.person == p} for p in people}
    cameras = any(len(of_person) > 1 for of_person in cameras_of.values())
    able = {p for p in people if (len(cameras_of[p]) if cameras else sum(i.person == p for i in images)) > 1}
    assert draw_split(images[::-1], seed) == split
    assert sorted(i._replace(split="") for i in split) == images
    by_split = defaultdict(list)
    for i in split:
        by_split[i.split].append(i)
    assert set(by_split) <= {"train", "query", "gallery"}
    train_people = {i.person for i in by_split["train"]}
    assert len(train_people) == len(people) - len(people) // 2
    assert not train_people & {i.person for i in (*by_split["query"], *by_split["gallery"])}
    assert len(able - train_people) == min((len(able) + 1) // 2, len(people) // 2)
    assert {i.person for i in by_split["query"]} == able - train_people
    assert NOBODY not in train_people | {i.person for i in by_split["query"]}
    assert max(Counter((i.person, i.camera if cameras else 0) for i in by_split["query"]).values()) == 1
    for query in by_split["query"]:
        assert any(
            i.person == query.person and (not cameras or i.camera != query.camera) for i in by_split["gallery"]
        )


def test_one_query_for_each_camera_that_leaves_the_others_a_match() -> None:
    images = [image(i, 1, camera, "test") for i, camera in enumerate((1, 1, 2, 2, 3))] + [image(9, 2, 1, "train")]
    split = draw_split(images, 0)
    assert sorted(i.camera for i in split if i.split == "query") == [1, 2, 3]
    pair = draw_split([image(0, 1, 1, "test"), image(1, 1, 2, "test"), image(2, 2, 1, "test")], 0)
    assert Counter(i.split for i in pair) == {"query": 1, "gallery": 2}


@pytest.mark.parametrize("seed", [0, 7])
def test_a_folder_without_split_gets_one_that_stays(
    tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    root = touch(people(tmp_path / "own"), "single/1.jpg")
    first = read_dataset(str(root), Path(), seed=seed)
    split_file = root / f"split_seed{seed}.csv"
    assert [path.name for path in root.iterdir() if path.is_file()] == [split_file.name]
    assert len({s.person_id for s in first.train}) == 4
    assert len(first.query) == len({s.person_id for s in first.query}) in (2, 3)
    text = split_file.read_text()
    assert text.splitlines()[0] == "path,person_id,split"
    touch(root, "p0/new.jpg", "stranger/1.jpg")
    caplog.clear()
    again = read_dataset(str(root), Path(), seed=seed)
    assert again == first
    assert message_with(caplog, "2 images are not in the saved split", f"delete {split_file} to draw a new split")
    itself = read_dataset(str(split_file), Path())
    assert (itself.train, itself.query, itself.gallery) == (first.train, first.query, first.gallery)
    assert split_file.read_text() == text


def test_another_seed_draws_another_split(tmp_path: Path) -> None:
    root = people(tmp_path / "own", 12)
    trains = {frozenset(s.path for s in read_dataset(str(root), Path(), seed=seed).train) for seed in range(4)}
    assert len(trains) > 1


def test_images_that_are_gone_are_told_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = people(tmp_path / "own")
    first = read_dataset(str(root), Path())
    first.train[0].path.unlink()
    with caplog.at_level(logging.WARNING):
        assert read_dataset(str(root), Path()).train == first.train[1:]
    assert message_with(caplog, "1 images of the saved split are gone")


@pytest.mark.parametrize("part", ["query", "gallery", "test"])
def test_training_stays_where_only_the_test_is_to_be_divided(
    tmp_path: Path, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = people(people(tmp_path / "own", 5, part="train/t"), 4, part=f"{part}/")
    splits = read_dataset(str(root), Path())
    assert {s.path.parent.parent.name for s in splits.train} == {"train"}
    assert (len(splits.train), len(splits.query), len(splits.gallery)) == (15, 4, 8)
    assert {s.path.parent.parent.name for s in (*splits.query, *splits.gallery)} == {part}
    assert read_dataset(str(root), Path(), with_train=False).query == splits.query
    shutil.rmtree(root / "train")  # a machine that only tests; nothing is gone that it needs
    with caplog.at_level(logging.WARNING):
        assert read_dataset(str(root), Path(), with_train=False).gallery == splits.gallery
    assert not caplog.messages


@pytest.mark.parametrize("csv", [True, False])
def test_a_test_without_a_saved_split_takes_everyone(
    tmp_path: Path, csv: bool, caplog: pytest.LogCaptureFixture
) -> None:
    root = people(tmp_path / "own")
    name, split_file = str(root), root / "split_seed0.csv"
    if csv:
        rows = [f"own/p{person}/{shot}.jpg,{person}" for person in range(6) for shot in range(3)]
        (tmp_path / "own.csv").write_text("\n".join(["path,person_id", *rows]))
        name, split_file = str(tmp_path / "own.csv"), tmp_path / "own_split_seed0.csv"
    for _ in range(2):
        caplog.clear()
        everyone = read_dataset(name, Path(), with_train=False)
        assert (len(everyone.query), len(everyone.gallery), everyone.train) == (6, 12, ())
        assert message_with(caplog, str(split_file), "all 6 identities", f"copy {split_file.name} from the data set")
        assert not split_file.exists()
    trained = read_dataset(name, Path())
    caplog.clear()
    assert read_dataset(name, Path(), with_train=False).query == trained.query
    assert len(trained.query) == 3
    pretrained = read_dataset(
        name, Path(), with_train=False, trained_here=False
    )  # the saved split is of another network
    assert (pretrained.query, pretrained.gallery) == (everyone.query, everyone.gallery)
    assert not [text for text in caplog.messages if "split" in text]


def test_given_test_identities_cannot_leak_and_their_queries_are_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = people(tmp_path / "own", 4, part="test/")
    first = read_dataset(str(root), Path(), with_train=False)
    assert not caplog.messages
    touch(root, "test/p0/0a.jpg")
    assert read_dataset(str(root), Path(), with_train=False).query == first.query


def test_a_split_given_later_is_not_ignored(tmp_path: Path) -> None:
    root = people(tmp_path, 4)
    file, split_file = tmp_path / "own.csv", tmp_path / "own_split_seed0.csv"
    images = [f"p{person}/{shot}.jpg" for person in range(4) for shot in range(3)]
    file.write_text("\n".join(["path,person_id", *(f"{image},{image[:2]}" for image in images)]))
    train_people = {s.path.parent.name for s in read_dataset(str(file), root).train}
    everyone = {f"p{person}" for person in range(4)}
    for training, fits in ((train_people, True), (everyone, True), (everyone - train_people, False)):
        rows = (f"{image},{image[:2]},{'train' if image[:2] in training else 'test'}" for image in images)
        file.write_text("\n".join(["path,person_id,split", *rows]))
        if fits:
            assert {s.path.parent.name for s in read_dataset(str(file), root).train} == train_people
        else:
            with pytest.raises(
                ReidError, match=rf"and training images, but 12 images have others, e\.g\. .*; delete {split_file}"
            ):
                read_dataset(str(file), root)


@pytest.mark.parametrize("header", ["path,person_id", "path,person_id,split"])
def test_a_saved_split_without_splits_is_named(tmp_path: Path, header: str) -> None:
    root = people(tmp_path)
    split = ",train" if "split" in header else ""
    (root / "split_seed0.csv").write_text(f"{header}\np0/0.jpg,p0{split}\n")
    with pytest.raises(
        ReidError, match=r"saved split .*split_seed0\.csv must have a split column with queries and g"
    ):
        read_dataset(str(root), Path())
    (root / "split_seed0.csv").write_text("path,person_id,split\np0/0.jpg,p0,\n")
    with pytest.raises(ReidError, match=r"split_seed0\.csv must read .*line 2: split must be one of"):
        read_dataset(str(root), Path())


def test_one_camera_for_all_is_drawn_and_the_check_tells_the_remedy(tmp_path: Path) -> None:
    people(tmp_path, 4)
    rows = [f"p{person}/{shot}.jpg,{person},7" for person in range(4) for shot in range(3)]
    (tmp_path / "one.csv").write_text("\n".join(["path,person_id,camera_id", *rows]))
    splits = read_dataset(str(tmp_path / "one.csv"), Path())
    assert (len(splits.train), len(splits.query), len(splits.gallery), splits.cameras) == (6, 2, 4, True)
    assert {s.camera_id for s in (*splits.train, *splits.query)} == {7}
    with pytest.raises(ReidError, match=r"only the query's own camera has it .*set TEST\.CAMERA_RULE False"):
        check_test(splits, camera_rule=True)
    assert check_test(splits, camera_rule=False) == []


@pytest.mark.parametrize("seed", range(8))
def test_no_luck_is_needed_where_one_of_ten_can_give_a_query(seed: int) -> None:
    split = draw_split([image(i, 1 + i % 10, None) for i in range(11)], seed)
    assert Counter(i.split for i in split) == {"train": 5, "query": 1, "gallery": 5}


def test_train_alone_gives_half_of_its_identities_to_the_test(tmp_path: Path) -> None:
    splits = read_dataset(str(people(tmp_path / "own", 6, part="train/")), Path())
    assert (len(splits.train), len(splits.query), len(splits.gallery)) == (9, 3, 6)


def test_a_csv_file_without_split_keeps_cameras_and_its_split_beside_it(tmp_path: Path) -> None:
    lines = [f"{i}.jpg,p{i % 4},{i // 4 % 2}" for i in range(16)]
    (tmp_path / "a.csv").write_text("\n".join(["path,person_id,camera_id", *lines]))
    touch(tmp_path, *(f"{i}.jpg" for i in range(16)))
    splits = read_dataset(str(tmp_path / "a.csv"), Path(), seed=3)
    assert (splits.name, splits.cameras, splits.folders) == ("a", True, (tmp_path,))
    assert (len(splits.train), len(splits.query), len(splits.gallery)) == (8, 4, 4)
    assert (tmp_path / "a_split_seed3.csv").read_text().startswith("path,person_id,camera_id,split")
    (tmp_path / "a.csv").write_text("\n".join(["path,person_id,camera_id", *lines[1:], "0.jpg,p1,0"]))
    with pytest.raises(ReidError, match=r"but 1 images have others, e\.g\. .*/0\.jpg; delete .*a_split_seed3\.csv"):
        read_dataset(str(tmp_path / "a.csv"), Path(), seed=3)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: Path, _: object) -> None:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(random_split, "write_csv", refuse)
    with pytest.raises(
        ReidError, match=r"saved as .*split_seed0\.csv, but: Permission denied; make the folder writable"
    ):
        read_dataset(str(people(tmp_path)), Path())


def test_too_little_to_draw_from(tmp_path: Path) -> None:
    with pytest.raises(ReidError, match=r"from 2 identities on, but the data set has 1"):
        read_dataset(str(people(tmp_path / "a", 1)), Path())
    with pytest.raises(ReidError, match="no test identity has a second image"):
        read_dataset(str(people(tmp_path / "b", 4, images=1)), Path())
    assert not list((tmp_path / "b").glob("*.csv"))
