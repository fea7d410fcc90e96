import logging
from pathlib import Path

import pytest

from datasets.readers import read_dataset
from datasets.readers.identity_folders import identity_folder_images
from datasets.sample import Sample
from tests.datasets.support import touch
from tests.support import message_with
from utils.errors import ReidError


def test_identities_are_numbered_by_sorted_names_over_all_splits(tmp_path: Path) -> None:
    root = touch(
        tmp_path / "내 데이터 2_c1",
        *("train/zoe/1.jpg", "train/zoe/2.JPG", "train/bob/a b.png", "train/bob/readme.txt"),
        *("query/김/1.jpg", "gallery/김/2.webp", "gallery/anna/1.tiff", ".cache/x/1.jpg", "val/x/1.jpg"),
    )
    splits = read_dataset(str(root), Path())
    number = {"anna": 1, "bob": 2, "zoe": 3, "김": 4}
    assert splits.train == tuple(
        Sample(root / "train" / file, number[file[:3]], 0) for file in ("bob/a b.png", "zoe/1.jpg", "zoe/2.JPG")
    )
    assert splits.query == (Sample(root / "query/김/1.jpg", 4, 0),)
    assert [s.person_id for s in splits.gallery] == [1, 4]
    assert (splits.name, splits.folders, splits.cameras) == (root.name, (root,), False)
    assert list(root.glob("*.csv")) == []
    without = read_dataset(str(root), Path(), with_train=False)
    assert (without.train, without.query, without.gallery) == ((), splits.query, splits.gallery)


def test_test_is_another_name_of_the_gallery_beside_queries(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/a/1.jpg", "query/b/1.jpg", "test/b/2.jpg")
    splits = read_dataset(str(root), Path())
    assert [s.path.name for s in splits.gallery] == ["2.jpg"]


def test_market_names_give_cameras_distractors_and_junk(tmp_path: Path) -> None:
    root = touch(
        tmp_path,
        *("train/0002/0002_c1s1_000451_03.jpg", "query/0005/0005_c3s1_000451_03.jpg"),
        *("gallery/0005/0005_c6s1_1_1.jpg", "gallery/0000/0000_c2s1_1_1.jpg", "gallery/-1/-1_c2s1_1_1.jpg"),
    )
    (root / "gallery/empty folder").mkdir()
    (root / "gallery/0007").mkdir()
    splits = read_dataset(str(root), Path())
    assert splits.cameras
    assert [(s.person_id, s.camera_id) for s in (*splits.train, *splits.query)] == [(1, 1), (2, 3)]
    assert [(s.person_id, s.camera_id) for s in splits.gallery] == [(0, 2), (2, 6)]


@pytest.mark.parametrize(
    "stranger", ["query/0005/photo.jpg", "query/0005/0006_c1s1_1_1.jpg", "query/eve/0005_c1.jpg"]
)
def test_one_other_name_means_no_cameras_and_a_warning(
    tmp_path: Path, stranger: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = touch(tmp_path, "gallery/0005/0005_c6s1_1_1.jpg", "gallery/0000/0000_c6s1_1_1.jpg", stranger)
    with caplog.at_level(logging.WARNING):
        images = identity_folder_images(root)
    assert {image.camera for image in images} == {None}
    assert {image.person for image in images} >= {"0000", "0005"}  # a person like others
    assert message_with(caplog, f"2 of 3 images of {root}", stranger)


def test_images_outside_of_an_identity_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReidError, match=r"must hold images, but has none; a data set is a folder in Market-1501"):
        read_dataset(str(tmp_path), Path())
    touch(tmp_path, "train/a/1.jpg", "train/loose.jpg")
    with pytest.raises(
        ReidError, match=r"must lie in the folder of an identity, but 1 do not: loose\.jpg; a data set is"
    ):
        read_dataset(str(tmp_path), Path())


def test_a_split_without_images_is_refused(tmp_path: Path) -> None:
    root = touch(tmp_path, "query/b/1.jpg", "gallery/b/2.jpg")
    with pytest.raises(ReidError, match=rf"train split of {root.name} must hold images, but has none in {root}"):
        read_dataset(str(root), Path())
    assert len(read_dataset(str(root), Path(), with_train=False).gallery) == 1
    (root / "gallery/b/2.jpg").unlink()
    (root / "train/a").mkdir(parents=True)
    with pytest.raises(ReidError, match="no query can be drawn"):
        read_dataset(str(root), Path())


def test_split_names_in_any_case(tmp_path: Path) -> None:
    root = touch(tmp_path, "Train/a/1.jpg", "QUERY/b/1.jpg", "Gallery/b/2.jpg")
    splits = read_dataset(str(root), Path())
    assert [s.path for s in (*splits.train, *splits.query, *splits.gallery)] == [
        root / file for file in ("Train/a/1.jpg", "QUERY/b/1.jpg", "Gallery/b/2.jpg")
    ]


def test_folders_that_do_not_fit_are_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = touch(
        tmp_path / "own",
        *("train/a/1.jpg", "train/a/cam1/2.jpg", "train/b/cam2/1.jpg", "train/b/notes.txt", "train/b/.x/1.jpg"),
        *("query/c/1.jpg", "gallery/c/2.jpg", "val/d/1.jpg", "extra/1.jpg", ".cache/1.jpg"),
    )
    assert len(read_dataset(str(root), Path()).train) == 1
    assert message_with(caplog, f"2 folders of {root}", "beside gallery, query, train", "extra, val")
    assert message_with(caplog, f"2 folders of {root}", "within", "train/a/cam1, train/b/cam2")
    assert message_with(caplog, f"1 files of {root}", ".txt")
    assert len(caplog.messages) == 3


def test_junk_and_distractor_folders_without_market_names_are_people(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = touch(
        tmp_path / "own",
        "train/5/1.jpg",
        "query/7/1.jpg",
        "gallery/7/2.jpg",
        "gallery/0000/1.jpg",
        "gallery/-1/1.jpg",
    )
    assert len(read_dataset(str(root), Path()).gallery) == 3
    assert message_with(caplog, "-1, 0000 in own", "leave junk out")


def test_folders_of_places_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    identity_folder_images(touch(tmp_path / "few", "gate/1.jpg", "lobby/1.jpg", "yard/1.jpg"))
    assert message_with(caplog, "3 folders", "read as identities: gate, lobby, yard", "CSV file with person_id")
    caplog.clear()
    identity_folder_images(touch(tmp_path / "many", *(f"cam_{number:02d}/1.jpg" for number in range(12))))
    assert message_with(caplog, "12 folders", "cam_00")
    caplog.clear()
    identity_folder_images(touch(tmp_path / "people", *(f"{number:04d}/1.jpg" for number in range(12))))
    assert not caplog.messages


def test_other_endings_are_counted_over_all_identities(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = touch(
        tmp_path, *(f"train/p{i}/{i}.{ending}" for i in range(3) for ending in ("jpg", "HEIC", "jfif", "x.txt"))
    )
    assert len(identity_folder_images(root)) == 6
    assert message_with(caplog, "6 files of", "3 .heic", "3 .txt")


def test_a_link_to_itself_is_no_identity(tmp_path: Path) -> None:
    root = touch(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.jpg")
    (root / "loop").symlink_to(root / "loop")
    (root / "b" / "loop.jpg").symlink_to(root / "b" / "loop.jpg")
    assert {image.person for image in identity_folder_images(root)} == {"a", "b"}
