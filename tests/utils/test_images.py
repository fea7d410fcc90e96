import os
import re
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datasets.low_resolution import read_size
from datasets.make_low_resolution import ImageTask, Target, make_images
from utils.errors import ReidError
from utils.images import FORMATS, IMAGE_SUFFIXES, is_image, open_image, other_ending, pixels_of, read_image


def test_a_damaged_header_is_an_error_of_ours(tmp_path: Path) -> None:
    """Turned, with a resolution given as text: Pillow raises TypeError when it writes the upright image's header."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x011A] = 1.0
    Image.new("RGB", (6, 4)).save(tmp_path / "b.jpg", exif=exif)
    content = (tmp_path / "b.jpg").read_bytes()
    tag = content.index(b"\x01\x1a\x00\x05")
    (tmp_path / "c.jpg").write_bytes(content[: tag + 3] + b"\x02" + content[tag + 4 :])
    with pytest.raises(ReidError, match=r"cannot read image .*c\.jpg: "):
        read_image(tmp_path / "c.jpg")


def test_an_open_file_is_read_and_stays_open() -> None:
    file = BytesIO()
    Image.new("RGB", (3, 2), (10, 20, 30)).save(file, "PNG")
    file.seek(0)
    with open_image(file) as image:
        assert pixels_of(image)[:, 0, 0].tolist() == [10, 20, 30]
    assert not file.closed
    with pytest.raises(OSError, match="its content is no image"), open_image(BytesIO(b"text")):
        pass


@pytest.mark.parametrize("kind", [TypeError, KeyError, ZeroDivisionError, RuntimeError])
def test_whatever_a_decoder_raises(monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    def fail(*_: object, **__: object) -> None:
        raise kind("in the\ndecoder")

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(ReidError, match=re.escape("test_images.py: ") + ".*in the"):
        read_image(__file__)


@pytest.mark.parametrize("ending", sorted(IMAGE_SUFFIXES))
@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_every_ending_of_an_image_can_be_read(tmp_path: Path, ending: str, case: Callable[[str], str]) -> None:
    path = tmp_path / f"photo{case(ending)}"
    Image.effect_noise((6, 4), 80).convert("1" if ending == ".pbm" else "L").save(tmp_path / f"photo{ending}")
    (tmp_path / f"photo{ending}").rename(path)
    assert is_image(path.name)
    assert read_image(path).shape == (3, 4, 6)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes among the files of this system")
@pytest.mark.parametrize("read", [read_image, read_size])
def test_no_pipe_is_waited_for_and_no_link_to_itself_followed(tmp_path: Path, read: Callable[[Path], object]) -> None:
    pipe, link = tmp_path / "pipe.jpg", tmp_path / "link.jpg"
    os.mkfifo(pipe)
    link.symlink_to(link)
    for path in (pipe, link, tmp_path):
        try:
            answer = read(path)
        except ReidError as error:
            answer = str(error)
        assert f"cannot read image {path}: " in str(answer)


@given(st.text(max_size=30), st.sampled_from(["", ".heic", ".JPG", ".jpeg"]))
def test_every_name_is_an_image_or_has_an_ending_or_is_hidden(stem: str, ending: str) -> None:
    name = stem + ending
    assert is_image(name) + bool(other_ending(name)) <= 1
    assert (
        is_image(name) or other_ending(name) or name.startswith(".") or name.lower() in ("thumbs.db", "desktop.ini")
    )


def _pictures_of_pillow() -> list[str]:
    Image.init()
    return sorted(set(Image.OPEN) & set(Image.SAVE))


@pytest.mark.parametrize("name", _pictures_of_pillow())
def test_photos_open_by_their_content_and_other_formats_do_not(tmp_path: Path, name: str) -> None:
    path, buffer = tmp_path / "photo.jpg", BytesIO()
    try:
        Image.new("RGB", (16, 16), (200, 30, 60)).save(buffer, name)
    except (OSError, KeyError, ValueError):
        pytest.skip(f"Pillow does not write {name} of this mode")
    path.write_bytes(buffer.getvalue())
    if name in FORMATS:
        assert read_image(path).shape == (3, 16, 16)
        return
    with pytest.raises(ReidError, match=r"photo\.jpg: .*formats JPEG, PNG"):
        read_image(path)
    assert "formats JPEG, PNG" in str(read_size(path))


def test_no_program_is_started_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (6, 4)).save(tmp_path / "a.eps")
    picture = (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    started: list[object] = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *words, **_: started.append(words))
    with pytest.raises(ReidError):
        read_image(picture)
    assert isinstance(read_size(picture), str)
    assert make_images(ImageTask(picture, (Target(tmp_path / "low.jpg", 2),)), 95).startswith("cannot read image")
    assert not started


def test_too_many_pixels_are_refused_and_a_jpeg_is_shrunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.images.MOST_PIXELS", 5000)
    picture = Image.linear_gradient("L").resize((61, 101)).convert("RGB")
    for name in ("a.png", "a.jpg", "large.jpg"):
        (picture if "a" in name[:1] else picture.resize((200, 200))).save(tmp_path / name, quality=95)
    shrunk = read_image(tmp_path / "a.jpg")
    assert shrunk.shape == (3, 51, 31)
    whole = torch.from_numpy(np.array(picture.resize((31, 51)))).permute(2, 0, 1)
    assert (shrunk.int() - whole.int()).abs().max() < 8
    for name, size in (("a.png", "61 x 101"), ("large.jpg", "100 x 100")):
        with pytest.raises(ReidError, match=rf"{name}: it must have at most 5000 pixels, got {size}; scale it down"):
            read_image(tmp_path / name)
    assert "at most 5000 pixels" in str(read_size(tmp_path / "a.jpg"))  # of the file as it is


def test_what_pillow_takes_for_a_bomb_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (64, 64)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "a.png").shape == (3, 64, 64)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        with pytest.raises(ReidError, match=r"a\.png: .*4096 pixels.*Scale it down$"):
            read_image(tmp_path / "a.png")


def _of_mode(mode: str) -> Image.Image:
    """Noise; where the mode has transparency, half of it."""
    if mode == "I;16":
        return Image.fromarray(np.random.default_rng(0).integers(0, 65536, (4, 6), dtype=np.uint16))
    noise = Image.effect_noise((6, 4), 80).convert("RGB")
    if mode == "RGBA":
        noise.putalpha(Image.linear_gradient("L").resize((6, 4)))
    return noise.convert(mode)


@pytest.mark.parametrize("mode", ["L", "I;16", "RGBA", "P", "CMYK", "1"])
def test_a_file_and_the_same_picture_of_pillow_agree(tmp_path: Path, mode: str) -> None:
    image = _of_mode(mode)
    assert image.mode == mode
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    image.save(path)
    pixels = pixels_of(image)
    assert (pixels.shape, pixels.dtype) == ((3, 4, 6), torch.uint8)
    assert torch.equal(read_image(path), pixels)
    if mode == "I;16":
        assert np.array_equal(pixels[0].numpy(), np.asarray(image) // 256)
    elif mode in ("L", "RGBA", "1"):
        channels = np.asarray(image.convert("RGBA"))[:, :, :3]
        assert np.array_equal(pixels.permute(1, 2, 0).numpy(), channels)


def test_sixteen_bits_stand_upright_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = _of_mode("I;16")
    deep.save(tmp_path / "deep.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "deep.png")[0].numpy(), np.rot90(np.asarray(deep) // 256, -1))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_values_without_a_range_are_refused(mode: str) -> None:
    with pytest.raises(ReidError, match=f"must have 8 or 16 bits a channel, got mode {mode}; convert them"):
        pixels_of(Image.new(mode, (4, 4)))
