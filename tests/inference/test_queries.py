import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.queries import list_queries
from utils.errors import ReidError

Draw = Callable[..., Path]


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Give standard input a content."""

    def give(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), "ascii"))

    return give


def test_files_stay_in_their_order_whatever_their_names(
    tmp_path: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = draw(tmp_path / "b" / "-1_c1.jpg", 1), draw(tmp_path / "a.jpg", 2)
    assert list_queries(["b/-1_c1.jpg", second]).paths.tolist() == [str(first), str(second)]


def test_one_place_is_a_folder_or_a_file(images: Path) -> None:
    assert len(list_queries([images]).paths) == 6
    assert list_queries([images]).junk == 1
    assert len(list_queries([images / "-1_c1s1_000001_00.jpg"]).paths) == 1


@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"\0"])
def test_paths_of_a_program(tmp_path: Path, draw: Draw, pipe: Callable[[bytes], None], separator: bytes) -> None:
    names = ["a b.jpg", "größe.jpg", "-1_c1.jpg"]
    paths = [draw(tmp_path / name, 1) for name in names]
    pipe(b"".join(str(path).encode() + separator for path in paths) + separator)
    assert list_queries(["-"]).paths.tolist() == list(map(str, paths))


def test_a_name_that_is_no_text_and_one_with_a_line_break(
    tmp_path: Path, draw: Draw, pipe: Callable[[bytes], None]
) -> None:
    path = str(draw(tmp_path / "a.png", 1)).encode()
    (tmp_path / "a.png").rename(tmp_path / "\udcff\nb.png")
    pipe(path.replace(b"a.png", b"\xff\nb.png\0"))
    assert list_queries(["-"]).paths.tolist() == [str(tmp_path / "\udcff\nb.png")]


def test_mistakes(tmp_path: Path, draw: Draw, pipe: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch) -> None:
    path = draw(tmp_path / "a.jpg", 1)
    with pytest.raises(
        ReidError, match=r"query images must exist, but 1 of 2 files do not exist: .*gone\.jpg; check"
    ):
        list_queries([path, tmp_path / "gone.jpg"])
    pipe(b"\n \n")
    with pytest.raises(ReidError, match="standard input must name images, one path a line, but it is empty"):
        list_queries(["-"])
    pipe(str(path).encode() + b"\ngone.jpg")
    with pytest.raises(ReidError, match="standard input must name images, but 1 of 2 files do not exist"):
        list_queries(["-"])
    monkeypatch.setattr(sys, "stdin", None)  # as some launchers have it
    with pytest.raises(ReidError, match="it is empty"):
        list_queries(["-"])
