import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from datasets.low_resolution import low_resolution_sibling, read_size
from datasets.make_low_resolution import LOW_RESOLUTION_MARK, ImageTask, Target, downsample, make_images, make_plan
from tests.datasets.support import noise, save_image
from utils.errors import ReidError
from utils.files import write_text
from utils.images import IMAGE_SUFFIXES
from utils.resolution import low_resolution_size


def person(height: int, width: int) -> np.ndarray:
    """A smooth background and flat clothes with hard edges, as in photographs of people."""
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.stack([rows * 200 // height, 255 - columns * 180 // width, 40 + (rows + columns) % 90], axis=-1)
    image[height // 4 : height // 2, width // 4 : -width // 4] = (220, 30, 30)
    image[height // 2 :, width // 3 : -width // 3] = (10, 20, 60)
    return image.astype(np.uint8)


def torch_downsampled(pixels: np.ndarray, scale: int, *, antialias: bool = True) -> np.ndarray:
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].double()
    size = low_resolution_size(*pixels.shape[:2], scale)
    small = F.interpolate(tensor, size, mode="bicubic", antialias=antialias)
    return small.clamp(0, 255)[0].permute(1, 2, 0).numpy()


def downsampled(source: Path, out: Path, scale: int = 2, quality: int = 95) -> Path:
    target = out / source.name
    assert make_images(ImageTask(source, (Target(target, scale),)), quality) == ""
    return target


@pytest.mark.parametrize("size", [(128, 64), (131, 67), (33, 50)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_downsampling_is_torch_s_antialiased_bicubic(size: tuple[int, int], scale: int) -> None:
    for pixels in (noise(*size), person(*size)):
        ours = np.array(downsample(Image.fromarray(pixels), scale), dtype=float)
        difference = np.abs(ours - torch_downsampled(pixels, scale))
        assert difference.max() <= 3.0
        assert difference.mean() < 0.4  # perfect rounding has 0.25
        aliased = np.abs(ours - torch_downsampled(pixels, scale, antialias=False))
        assert aliased.mean() > 2 * difference.mean()


@pytest.mark.parametrize("scale", [2, 4])
def test_a_jpeg_copy_is_torch_s_within_the_error_of_jpeg(tmp_path: Path, scale: int) -> None:
    path = save_image(tmp_path / "a.jpg", person(128, 64), quality=95)
    with Image.open(path) as image:
        reference = torch_downsampled(np.array(image), scale)
    with Image.open(downsampled(path, tmp_path / "low", scale)) as low:
        assert low.format == "JPEG"
        assert low.size == (64 // scale, 128 // scale)
        difference = np.abs(np.array(low, dtype=float) - reference)
    assert difference.mean() < 2.0
    assert difference.max() < 16.0  # chroma at half resolution gives 30 and more at the edges of clothes


def test_quality_sets_the_tables_of_jpeg(tmp_path: Path) -> None:
    path = save_image(tmp_path / "a.jpg", noise(64, 32))
    for quality in (40, 95):
        low = downsampled(path, tmp_path / f"q{quality}", quality=quality)
        reference = save_image(tmp_path / f"reference{quality}.jpg", noise(32, 16), quality=quality)
        with Image.open(low) as ours, Image.open(reference) as theirs:
            assert ours.quantization == theirs.quantization


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.webp", "a.tif", "a.TIFF"])
def test_other_formats_are_kept_without_loss(tmp_path: Path, name: str) -> None:
    options = {"compression": "jpeg"} if name.lower().startswith("a.tif") else {}
    path = save_image(tmp_path / name, noise(40, 24), **options)
    with Image.open(path) as image, Image.open(downsampled(path, tmp_path / "low")) as low:
        assert low.format == image.format
        np.testing.assert_array_equal(np.array(low), np.array(downsample(image, 2)))


@pytest.mark.parametrize(
    ("mode", "low_mode"), [("1", "L"), ("P", "RGB"), ("L", "L"), ("LA", "LA"), ("RGBA", "RGBA"), ("I;16", "I;16")]
)
def test_color_modes_of_png(tmp_path: Path, mode: str, low_mode: str) -> None:
    gray = Image.fromarray(noise(40, 24, 1))
    image = Image.fromarray(noise(40, 24, 1).astype(np.uint16) * 200) if mode == "I;16" else gray.convert(mode)
    with Image.open(downsampled(save_image(tmp_path / "a.png", image), tmp_path / "low")) as low:
        assert low.mode == low_mode
        assert low.size == (12, 20)
        assert len(np.unique(np.array(low.convert("L")))) > 2 or mode == "I;16"  # averages, not picked pixels


def test_the_content_decides_the_format_and_an_orientation_stays(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.png"
    Image.fromarray(noise(40, 24)).save(path, "JPEG", exif=exif)
    with Image.open(downsampled(path, tmp_path / "low")) as low:
        assert low.format == "JPEG"
        assert low.getexif()[0x0112] == 6


def test_damaged_and_foreign_files_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    whole = save_image(tmp_path / "whole.jpg", noise(64, 32)).read_bytes()
    half, text, drawn = tmp_path / "cut.jpg", tmp_path / "text.jpg", tmp_path / "eps.jpg"
    half.write_bytes(whole[: len(whole) // 2])
    text.write_text("no image")
    Image.fromarray(noise(64, 32)).save(drawn, "EPS")
    for path in (half, text, drawn, tmp_path / "absent.jpg"):
        fault = make_images(ImageTask(path, (Target(tmp_path / "low" / path.name, 2),)), 95)
        assert fault.startswith(f"cannot read image {path}: ")
    assert not (tmp_path / "low").exists()
    assert read_size(half) == (64, 32)
    assert str(read_size(text)).startswith(f"cannot read image {text}: ")


def test_a_full_disk_stops_and_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_image(tmp_path / "data" / "a.png", noise(40, 24))

    def half(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(ReidError, match=r"a\.png must be writable, but .*No space left.* repeat the command"):
        downsampled(path, tmp_path / "low")
    assert list((tmp_path / "low").iterdir()) == []


def market(tmp_path: Path) -> Path:
    folder = tmp_path / "market"
    for name in ("query/b.jpg", "query/a.JPG", "deep/er/c.png", "d.bmp"):
        save_image(folder / name, noise(40, 24))
    write_text(folder / "readme.txt", "text")
    write_text(folder / "query" / "Thumbs.db", "")
    return folder


def test_a_plan_is_recursive_sorted_and_leaves_out_finished_files(tmp_path: Path) -> None:
    source, low = market(tmp_path), tmp_path / "low"
    plan = make_plan(source, [Target(low, 2)], 95)
    names = [Path("d.bmp"), Path("deep/er/c.png"), Path("query/a.JPG"), Path("query/b.jpg")]
    assert sorted(task.source for task in plan.tasks) == sorted(source / name for name in names)
    assert plan.tasks == tuple(ImageTask(source / n, (Target(low / n, 2),)) for n in sorted(names))
    assert plan.others == (Path("query/Thumbs.db"), Path("readme.txt"))
    assert plan.finished == 0
    assert not low.exists()

    write_text(low / LOW_RESOLUTION_MARK, plan.marks[low])
    downsampled(source / "d.bmp", low)
    half = low / "query" / ".b.jpg.4711.part"
    write_text(half, "half")
    again = make_plan(source, [Target(low, 2), Target(tmp_path / "four", 4)], 95)
    assert again.finished == 1
    assert again.tasks[0] == ImageTask(source / "d.bmp", (Target(tmp_path / "four" / "d.bmp", 4),))
    assert [len(task.targets) for task in again.tasks] == [1, 2, 2, 2]
    assert not half.exists()


def test_links_to_folders_are_followed_but_not_for_ever(tmp_path: Path) -> None:
    source = market(tmp_path)
    save_image(tmp_path / "elsewhere" / "e.jpg", noise(40, 24))
    (source / "gallery").symlink_to(tmp_path / "elsewhere")
    (source / "query" / "up").symlink_to(source)

    plan = make_plan(source, [Target(tmp_path / "low", 2)], 95)
    assert [task.source.name for task in plan.tasks] == ["d.bmp", "c.png", "e.jpg", "a.JPG", "b.jpg"]


def test_folders_of_others_are_refused(tmp_path: Path) -> None:
    source, low = market(tmp_path), tmp_path / "low"
    write_text(low / "thesis.tex", "years of work")
    with pytest.raises(ReidError, match=r"low must be absent, empty, .* holds something else; remove it or give"):
        make_plan(source, [Target(low, 2)], 95)
    assert [path.name for path in low.iterdir()] == ["thesis.tex"]
    with pytest.raises(ReidError, match=r"d\.bmp must be absent, empty, .* something else"):
        make_plan(tmp_path / "market" / "query", [Target(source / "d.bmp", 2)], 95)


@pytest.mark.parametrize("change", ["scale", "quality", "source"])
def test_a_different_mark_is_refused(tmp_path: Path, change: str) -> None:
    source, low = market(tmp_path), tmp_path / "low"
    write_text(low / LOW_RESOLUTION_MARK, make_plan(source, [Target(low, 2)], 95).marks[low])
    make_plan(source, [Target(low, 2)], 95)
    changed = source / "query" if change == "source" else source
    scale, quality = 3 if change == "scale" else 2, 90 if change == "quality" else 95
    with pytest.raises(
        ReidError, match=rf"begun by the same command, but it holds {change} .* \(now .*\); remove it"
    ):
        make_plan(changed, [Target(low, scale)], quality)


def test_the_mark_holds_when_both_folders_move(tmp_path: Path) -> None:
    source = market(tmp_path / "here")
    low = low_resolution_sibling(source, 2)
    mark = make_plan(source, [Target(low, 2)], 95).marks[low]
    (tmp_path / "here").rename(tmp_path / "there")
    low = tmp_path / "there" / low.name
    assert make_plan(tmp_path / "there" / "market", [Target(low, 2)], 95).marks[low] == mark


def test_sources_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = market(tmp_path)
    with pytest.raises(ReidError, match=r"--data_dir must be the folder of a data set, but .*absent is not a folder"):
        make_plan(tmp_path / "absent", [], 95)
    write_text(tmp_path / "texts" / "a.txt", "")
    with pytest.raises(ReidError, match=r"--data_dir must hold images, but .*texts has none \(1 other files\)"):
        make_plan(tmp_path / "texts", [], 95)
    for inside in (source, source / "low"):
        with pytest.raises(ReidError, match=r"--out_dir must lie outside of the data set .*market, got"):
            make_plan(source, [Target(inside, 2)], 95)

    def refuse(path: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ReidError, match=r"all folders in --data_dir must be readable, but .*Permission denied"):
        make_plan(source, [], 95)


def test_links_in_a_circle_have_an_end(tmp_path: Path) -> None:
    save_image(tmp_path / "data" / "a" / "1.png", noise(40, 24))
    save_image(tmp_path / "data" / "b" / "2.png", noise(40, 24))
    for link, target in (("a/up", "."), ("a/over", "b"), ("b/over", "a")):
        (tmp_path / "data" / link).symlink_to(tmp_path / "data" / target)
    (tmp_path / "data" / "self.png").symlink_to(tmp_path / "data" / "self.png")
    images = {
        str(task.source.relative_to(tmp_path / "data"))
        for task in make_plan(tmp_path / "data", [Target(tmp_path / "low", 2)], 95).tasks
    }
    assert images == {"a/1.png", "b/2.png", "a/over/2.png", "b/over/1.png", "self.png"}


@pytest.mark.parametrize("ending", ["gif", "ppm", "jfif", "avif"])
def test_every_format_stays_what_it_is(tmp_path: Path, ending: str) -> None:
    if f".{ending}" not in IMAGE_SUFFIXES:
        pytest.skip("this Pillow does not know the format")
    path = save_image(tmp_path / f"a.{ending}", noise(64, 32).repeat(2, 0).repeat(2, 1))
    with Image.open(path) as image, Image.open(downsampled(path, tmp_path / "low")) as low:
        assert (low.format, low.size) == (image.format, (32, 64))
