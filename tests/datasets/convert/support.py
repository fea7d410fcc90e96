"""What the tests of all converters ask of a release and of its data set."""

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from datasets.convert.__main__ import main


def crops(folder: Path) -> dict[str, bytes]:
    """The files of all splits by name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("*/*")}


def cut(frame: Path, box: tuple[int, int, int, int], quality: int = 95) -> bytes:
    """The JPEG file that a box (left, top, right, bottom) of a frame must become."""
    buffer = io.BytesIO()
    with Image.open(frame) as image:
        image.crop(box).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def refusal(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a command that ends with exit code 2."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    return line


def check_that_only_these_are_made_again(out: Path, gone: set[Path], arguments: Sequence[str]) -> None:
    """Convert again without some files and with a half-written one: the same bytes, and no other file is touched."""
    before = crops(out)
    times = {path: path.stat().st_mtime_ns for path in out.glob("*/*")}
    for path in gone:
        path.unlink()
        path.with_name(f".{path.name}.1.part").write_bytes(b"half")
    main(arguments)
    assert crops(out) == before
    assert {path for path, time in times.items() if path.stat().st_mtime_ns != time} == gone
