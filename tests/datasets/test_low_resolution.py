import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from datasets.low_resolution import (
    Job,
    Target,
    downsample,
    make_images,
    read_size,
)
from utils.errors import ReidError
from utils.resolution import low_resolution_size


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels)[: 3 if channels > 1 else 2]
    return np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)


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


def save(folder: Path, name: str, image: Image.Image | np.ndarray, **options: object) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def made(source: Path, out: Path, scale: int = 2, quality: int = 95) -> Path:
    target = out / source.name
    assert make_images(Job(source, (Target(target, scale),)), quality) == ""
    return target


@pytest.mark.parametrize("size", [(128, 64), (131, 67), (33, 50)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_downsampling_is_torch_s_antialiased_bicubic(size: tuple[int, int], scale: int) -> None:
    for pixels, largest in ((noise(*size), 3.0), (person(*size), 3.0)):
        ours = np.array(downsample(Image.fromarray(pixels), scale), dtype=float)
        difference = np.abs(ours - torch_downsampled(pixels, scale))
        assert difference.max() <= largest
        assert difference.mean() < 0.4  # perfect rounding has 0.25
        aliased = np.abs(ours - torch_downsampled(pixels, scale, antialias=False))
        assert aliased.mean() > 2 * difference.mean()


@pytest.mark.parametrize("scale", [2, 4])
def test_a_jpeg_twin_is_torch_s_within_the_error_of_jpeg(tmp_path: Path, scale: int) -> None:
    path = save(tmp_path, "a.jpg", person(128, 64), quality=95)
    with Image.open(path) as image:
        expected = torch_downsampled(np.array(image), scale)
    with Image.open(made(path, tmp_path / "low", scale)) as low:
        assert low.format == "JPEG"
        assert low.size == (64 // scale, 128 // scale)
        difference = np.abs(np.array(low, dtype=float) - expected)
    assert difference.mean() < 2.0
    assert difference.max() < 16.0  # chroma at half resolution gives 30 and more at the edges of clothes


def test_quality_sets_the_tables_of_jpeg(tmp_path: Path) -> None:
    path = save(tmp_path, "a.jpg", noise(64, 32))
    for quality in (40, 95):
        twin = made(path, tmp_path / f"q{quality}", quality=quality)
        reference = save(tmp_path, f"reference{quality}.jpg", noise(32, 16), quality=quality)
        with Image.open(twin) as ours, Image.open(reference) as theirs:
            assert ours.quantization == theirs.quantization


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.webp", "a.tif", "a.TIFF"])
def test_other_formats_are_kept_without_loss(tmp_path: Path, name: str) -> None:
    options = {"compression": "jpeg"} if name.lower().startswith("a.tif") else {}
    path = save(tmp_path, name, noise(40, 24), **options)
    with Image.open(path) as image, Image.open(made(path, tmp_path / "low")) as low:
        assert low.format == image.format
        np.testing.assert_array_equal(np.array(low), np.array(downsample(image, 2)))


@pytest.mark.parametrize(
    ("mode", "kept"), [("1", "L"), ("P", "RGB"), ("L", "L"), ("LA", "LA"), ("RGBA", "RGBA"), ("I;16", "I;16")]
)
def test_colour_modes_of_png(tmp_path: Path, mode: str, kept: str) -> None:
    grey = Image.fromarray(noise(40, 24, 1))
    image = Image.fromarray(noise(40, 24, 1).astype(np.uint16) * 200) if mode == "I;16" else grey.convert(mode)
    with Image.open(made(save(tmp_path, "a.png", image), tmp_path / "low")) as low:
        assert low.mode == kept
        assert low.size == (12, 20)
        assert len(np.unique(np.array(low.convert("L")))) > 2 or mode == "I;16"  # averages, not picked pixels


def test_the_content_decides_the_format_and_an_orientation_stays(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.png"
    Image.fromarray(noise(40, 24)).save(path, "JPEG", exif=exif)
    with Image.open(made(path, tmp_path / "low")) as low:
        assert low.format == "JPEG"
        assert low.getexif()[0x0112] == 6


def test_damaged_and_foreign_files_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    whole = save(tmp_path, "whole.jpg", noise(64, 32)).read_bytes()
    cut, text, gif = tmp_path / "cut.jpg", tmp_path / "text.jpg", tmp_path / "gif.jpg"
    cut.write_bytes(whole[: len(whole) // 2])
    text.write_text("no image")
    Image.fromarray(noise(64, 32)).save(gif, "GIF")
    for path in (cut, text, gif, tmp_path / "absent.jpg"):
        fault = make_images(Job(path, (Target(tmp_path / "low" / path.name, 2),)), 95)
        assert fault.startswith(f"cannot read image {path}: ")
    assert not (tmp_path / "low").exists()
    assert read_size(cut) == (64, 32)
    assert str(read_size(text)).startswith(f"cannot read image {text}: ")


def test_a_full_disk_stops_and_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "data", "a.png", noise(40, 24))

    def half(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(ReidError, match=r"a\.png must be writable, but .*No space left.* the command goes on"):
        made(path, tmp_path / "low")
    assert list((tmp_path / "low").iterdir()) == []
