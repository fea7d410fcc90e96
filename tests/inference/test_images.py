from collections.abc import Callable
from pathlib import Path

import pytest

from inference.images import image_sequence, list_images
from tests.support import message_with
from utils.errors import ReidError

Make = Callable[..., Path]


def test_images_are_sorted_and_junk_and_other_files_leave(images: Path, draw: Make) -> None:
    draw(images / "holiday.PNG", 1)
    draw(images / "-2_c1s1_000001_00.jpg", 1)
    draw(images / "deeper" / "0001_c1.jpg", 1)
    (images / "list.txt").write_text("text")
    paths, junk = list_images(images)
    assert junk == 2
    assert [Path(path).name for path in paths] == sorted(
        path.name for path in images.iterdir() if path.suffix in (".jpg", ".PNG") and path.name[0] != "-"
    )
    assert all(Path(path).is_absolute() and Path(path).is_file() for path in paths)


def test_subfolders(tmp_path: Path, draw: Make) -> None:
    for name in ("b/0001_c1.jpg", "a/x/0002_c1.jpg", "a/-1_c1.jpg", "0003_c1.jpg"):
        draw(tmp_path / name, 1)
    paths, junk = list_images(tmp_path, subfolders=True)
    assert paths.tolist() == [str(tmp_path / name) for name in ("0003_c1.jpg", "a/x/0002_c1.jpg", "b/0001_c1.jpg")]
    assert junk == 1
    assert list_images(tmp_path).paths.tolist() == [str(tmp_path / "0003_c1.jpg")]


def test_one_image_is_meant_whatever_its_name(tmp_path: Path, draw: Make) -> None:
    path = draw(tmp_path / "-1_c1.jpg", 1)
    assert list_images(path).paths.tolist() == [str(path)]
    assert list_images(path.rename(tmp_path / "suspect.photo").rename(tmp_path / "suspect")).junk == 0


def test_other_endings_are_counted(tmp_path: Path, draw: Make, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.jpg", "b.heic", "c.HEIC", "d.txt", ".hidden.heic", "deep/e.heic", "deep/f.JFIF"):
        path = draw(tmp_path / "x" / (name + ".png"), 1)
        path.rename(path.with_name(path.name.removesuffix(".png")))
    assert len(list_images(tmp_path / "x").paths) == 1
    assert message_with(caplog, "3 files of", "2 .heic", "1 .txt")
    caplog.clear()
    assert len(list_images(tmp_path / "x", subfolders=True).paths) == 2
    assert message_with(caplog, "4 files of", "3 .heic", "1 .txt")


def test_links_to_themselves_end_nothing(tmp_path: Path, draw: Make) -> None:
    good = draw(tmp_path / "a.jpg", 1)
    for name in ("b.jpg", "c"):
        (tmp_path / name).symlink_to(tmp_path / name)
    (tmp_path / "d").symlink_to(tmp_path)
    for subfolders in (False, True):
        assert list_images(tmp_path, subfolders=subfolders).paths.tolist() == [str(good), str(tmp_path / "b.jpg")]


def test_a_relative_folder_gives_absolute_paths(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(images.parent)
    assert list_images("images").paths.tolist() == list_images(images).paths.tolist()


def test_nothing_to_list(tmp_path: Path, draw: Make) -> None:
    with pytest.raises(ReidError, match=r"folder of images .*nowhere must exist, but does not; set it, or an image"):
        list_images(tmp_path / "nowhere")
    draw(tmp_path / "junk" / "-1_c1.jpg", 1)
    with pytest.raises(ReidError, match=r"has none; images in its folders count with --images_in_subfolders"):
        list_images(tmp_path)
    with pytest.raises(ReidError, match="must hold images that are no junk, but all 1 are -1 or -2"):
        list_images(tmp_path / "junk")


def test_what_is_no_sequence_of_images(tmp_path: Path) -> None:
    for missing in ("nowhere", tmp_path / "nowhere"):
        with pytest.raises(
            ReidError, match=r"images must be a folder, .* but .*nowhere does not exist; check the path"
        ):
            image_sequence(missing)
    for value, name in (({"a.jpg": 1}, "dict"), ({"a.jpg"}, "set"), (7, "int"), (iter(["a.jpg"]), "list_iterator")):
        with pytest.raises(ReidError, match=rf"must be a sequence of .*, got a {name}; use list\(\)"):
            image_sequence(value)  # type: ignore[arg-type]
