import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from utils.errors import ReidError
from utils.files import has_mark, keep_previous, nearest_path, remove_parts, write_text, written_aside
from utils.images import read_image


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "RGB"])
def test_images_of_every_mode_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Image.new("RGB", (6, 4), (200, 30, 60)).convert(mode).save(path)
    pixels = read_image(path)
    assert pixels.shape == (3, 4, 6)
    assert pixels.dtype == torch.uint8


def test_pixels_are_those_of_pillow(tmp_path: Path) -> None:
    Image.effect_noise((31, 17), 80).convert("RGB").save(tmp_path / "x.png")
    assert np.array_equal(
        read_image(tmp_path / "x.png").permute(1, 2, 0).numpy(), np.array(Image.open(tmp_path / "x.png"))
    )


def test_16_bits_are_scaled_not_clipped_and_floats_are_refused(tmp_path: Path) -> None:
    gradient = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    Image.fromarray(gradient).save(tmp_path / "deep.png")
    assert np.abs(read_image(tmp_path / "deep.png")[0, 0].numpy().astype(int) - np.arange(256)).max() <= 1
    Image.fromarray(np.ones((4, 4), dtype=np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(
        ReidError, match=r"float\.tif: its pixels must have 8 or 16 bits a channel, got mode F; convert"
    ):
        read_image(tmp_path / "float.tif")


def test_photos_stand_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("RGB", (6, 4)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (3, 6, 4)


def test_unreadable_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(ReidError, match=r"cannot read image .*gone\.jpg: no such file"):
        read_image(tmp_path / "gone.jpg")
    (tmp_path / "text.jpg").write_text("text")
    with pytest.raises(ReidError, match=r"cannot read image .*text\.jpg: its content is no image"):
        read_image(tmp_path / "text.jpg")


def test_files_are_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "한글")
    assert path.read_text(encoding="utf-8") == "한글"

    def fail() -> None:
        with written_aside(path) as aside:
            aside.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert path.read_text(encoding="utf-8") == "한글"
    assert list(path.parent.iterdir()) == [path]


def test_a_mark_tells_whose_folder_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert not has_mark(folder, "mark.json", "a", "OUT")
    half = folder / "deep" / ".x.jpg.1.part"
    write_text(half, "half")
    with pytest.raises(
        ReidError, match=r"out must be absent, empty, or begun by the same command, but it holds something els"
    ):
        has_mark(folder, "mark.json", "a", "OUT")
    write_text(folder / "mark.json", "a")
    assert half.exists()
    assert has_mark(folder, "mark.json", "a", "OUT")
    assert not half.exists()
    with pytest.raises(ReidError, match="same command, but it holds a; remove it or give another OUT"):
        has_mark(folder, "mark.json", "b", "OUT")
    write_text(folder / "mark.json", '{"source": "gate.mp4", "every": 10}')
    with pytest.raises(ReidError, match=r"but it holds every 10 \(now 5\); remove it"):
        has_mark(folder, "mark.json", '{"source": "gate.mp4", "every": 5}', "OUT")
    with pytest.raises(ReidError, match="json must be absent, empty"):
        has_mark(folder / "mark.json", "mark.json", "a", "OUT")


def test_parts_of_killed_processes_go(tmp_path: Path) -> None:
    for name in (".a.csv.1f.part", ".a[1].csv.1f.part", ".b.csv.1f.part", "a.csv"):
        (tmp_path / name).touch()
    remove_parts(tmp_path, ("a.csv", "a[1].csv"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.csv.1f.part", "a.csv"]
    remove_parts(tmp_path / "absent", ("a.csv",))


def test_earlier_results_are_kept_together(tmp_path: Path) -> None:
    names = ("report.json", "pictures", "absent.txt")
    assert keep_previous(tmp_path, names) is None
    for text in ("first", "second"):
        (tmp_path / "report.json").write_text(text)
        (tmp_path / "pictures").mkdir()
        (tmp_path / "pictures" / text).touch()
        (tmp_path / "other.txt").touch()
        keep_previous(tmp_path, names)
    assert {path.name for path in tmp_path.iterdir()} == {"earlier_1", "earlier_2", "other.txt"}
    assert (tmp_path / "earlier_1/report.json").read_text() == "first"
    assert (tmp_path / "earlier_2/pictures/second").exists()


def test_an_error_without_a_file_gets_its_name(tmp_path: Path) -> None:
    """As that of a full disk, which a write meets; one that has a name keeps it."""

    def fail(*arguments: object) -> None:
        with written_aside(tmp_path / "a.txt"):
            raise OSError(*arguments)

    with pytest.raises(OSError, match="No space left") as error:
        fail(errno.ENOSPC, "No space left on device")
    assert error.value.filename == str(tmp_path / "a.txt")
    with pytest.raises(OSError, match="other") as error:
        fail(errno.ENOENT, "gone", "other.txt")
    assert error.value.filename == "other.txt"


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("logs/people/resnet50/base/exp0/best.pth", "logs/people/resnet50/baseline/exp0/best.pth"),
        ("logs/people/resnet18/baseline/exp1/besst.pth", "logs/people/resnet50/baseline/exp0/best.pth"),
        ("log/people/resnet50/ctl/exp0/3.pth", "logs/people/resnet50/ctl/exp0/30.pth"),
        ("logs/people/resnet50/quite_another/exp0/best.pth", None),
        ("elsewhere/best.pth", None),
        ("logs/people/resnet50/baseline/exp0/best.pth/x", None),
    ],
)
def test_the_nearest_path(tmp_path: Path, path: str, near: str | None) -> None:
    for name in ("baseline/exp0/best.pth", "ctl/exp0/30.pth"):
        file = tmp_path / "logs/people/resnet50" / name
        file.parent.mkdir(parents=True)
        file.touch()
    assert nearest_path(tmp_path / path) == (tmp_path / near if near else None)
