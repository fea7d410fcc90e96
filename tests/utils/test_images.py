import re
from pathlib import Path

import pytest
from PIL import Image

from utils.errors import ReidError
from utils.images import read_image


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


@pytest.mark.parametrize("kind", [TypeError, KeyError, ZeroDivisionError, RuntimeError])
def test_whatever_a_decoder_raises(monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    def fail(*_: object, **__: object) -> None:
        raise kind("in the\ndecoder")

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(ReidError, match=re.escape("a.jpg: ") + ".*in the"):
        read_image("a.jpg")
