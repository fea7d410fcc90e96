import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import makelr
from datasets import make_low_resolution
from datasets.make_low_resolution import ImageTask
from makelr import main
from tests.datasets.support import contents, noise, save_image
from utils.images import IMAGE_SUFFIXES

REPOSITORY = Path(makelr.__file__).resolve().parent


def draw(path: Path, height: int = 40, width: int = 24) -> Path:
    return save_image(path, noise(height, width, seed=len(path.name)))


@pytest.fixture
def market(tmp_path: Path) -> Path:
    folder = tmp_path / "market"
    for row in range(20):
        for part in ("query", "bounding_box_test"):
            draw(folder / part / f"{row:04}_c1.jpg")
    draw(folder / "more" / "a.png")
    (folder / "readme.txt").write_text("text")
    return folder


def images(folder: Path) -> list[str]:
    return sorted(name for name in contents(folder) if Path(name).suffix in IMAGE_SUFFIXES)


def run(folder: Path, *options: str, scale: str = "2") -> int:
    return main(["--scale", *scale.split(), "--data_dir", str(folder), "--workers", "1", *options])


def test_the_command_of_the_readme(market: Path) -> None:
    """From the folder that holds the data sets, as its users type it."""
    command = [sys.executable, str(REPOSITORY / "makelr.py"), "--scale", "2", "--data_dir", "./market"]
    process = subprocess.run(command, cwd=market.parent, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    low = market.parent / "market_x2"
    assert images(low) == images(market)
    assert "readme.txt" not in contents(low)
    assert "1 files of market are not images by their endings and are not copied: readme.txt" in process.stderr
    assert "x2: 20 x 12 pixels (height x width)" in process.stderr
    assert "41 files written" in process.stderr
    with Image.open(low / "query" / "0003_c1.jpg") as image:
        assert image.size == (12, 20)
    mark = {"made_by": "makelr.py", "source": "../market", "scale": 2, "quality": 95}
    assert json.loads((low / "makelr.json").read_text()) == mark


def test_the_data_set_may_lie_beside_the_code(market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "datasets" / "market1501"
    data.parent.mkdir()
    market.rename(data)
    (tmp_path / "repository").mkdir()
    monkeypatch.chdir(tmp_path / "repository")
    assert run(Path("./market1501")) == 0
    assert images(tmp_path / "datasets" / "market1501_x2") == images(data)
    assert not list(Path().iterdir())


def test_processes_write_what_one_writes(market: Path, tmp_path: Path) -> None:
    assert run(market, "--out_dir", str(tmp_path / "one")) == 0
    assert run(market, "--out_dir", str(tmp_path / "two"), "--workers", "2") == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_several_scales_and_where_they_go(market: Path, tmp_path: Path) -> None:
    assert run(market, scale="3 2 2") == 0
    assert run(market, "--out_dir", str(tmp_path / "out"), scale="2 3") == 0
    for scale, size in ((2, (12, 20)), (3, (8, 13))):
        beside = contents(tmp_path / f"market_x{scale}")
        there = contents(tmp_path / "out" / f"market_x{scale}")
        assert {**beside, "makelr.json": b""} == {**there, "makelr.json": b""}
        with Image.open(tmp_path / f"market_x{scale}" / "more" / "a.png") as image:
            assert image.size == size


def test_finished_files_are_skipped(market: Path) -> None:
    assert run(market) == 0
    low = market.parent / "market_x2"
    before = {name: (low / name).stat().st_mtime_ns for name in images(low)}
    (low / "query" / "0001_c1.jpg").unlink()
    assert run(market) == 0
    after = {name: (low / name).stat().st_mtime_ns for name in images(low)}
    assert {name for name in after if after[name] != before[name]} == {"query/0001_c1.jpg"}


def test_a_stopped_run_goes_on(market: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, tasks = make_low_resolution.make_images, []

    def stop_at_ten(task: ImageTask, quality: int) -> str:
        if len(tasks) == 10:
            raise KeyboardInterrupt
        tasks.append(task)
        return work(task, quality)

    monkeypatch.setattr(make_low_resolution, "make_images", stop_at_ten)
    assert run(market) == 130
    low = market.parent / "market_x2"
    assert len(images(low)) == 10
    monkeypatch.setattr(make_low_resolution, "make_images", work)
    assert run(market) == 0
    assert images(low) == images(market)
    assert set(contents(low)) == {*images(market), "makelr.json"}
    assert run(market, "--out_dir", str(market.parent / "fresh")) == 0
    fresh = contents(market.parent / "fresh")
    assert {name: contents(low)[name] for name in images(low)} == {name: fresh[name] for name in images(low)}


def test_damaged_images_are_named_after_the_rest(market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half, text = market / "query" / "cut.jpg", market / "query" / "text.jpg"
    half.write_bytes(draw(market / "query" / "0001_c1.jpg").read_bytes()[:-200])
    text.write_text("no image")
    (market / "query" / "broken.jpg").symlink_to("nowhere")
    assert run(market) == 2
    low = market.parent / "market_x2"
    assert set(images(market)) - set(images(low)) == {"query/cut.jpg", "query/text.jpg"}
    lines = capsys.readouterr().err.splitlines()
    for path in (half, text, market / "query" / "broken.jpg"):
        assert any(line.startswith(f"cannot read image {path}: ") for line in lines)
    assert lines[-1] == "error: 3 images could not be read"


@pytest.mark.parametrize("scale", ["4", "2 4"])
def test_too_small_is_an_error_before_anything_is_written(
    market: Path, capsys: pytest.CaptureFixture[str], scale: str
) -> None:
    draw(market / "query" / "tiny.jpg", 80, 20)
    assert run(market, scale=scale) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "error: --scale 4 must leave 8 pixels or more on each side, but " in error
    assert "query/tiny.jpg becomes 20 x 5 (height x width), the smallest of 42 such images; use a" in error
    assert [path.name for path in market.parent.iterdir()] == ["market"]


def test_eight_pixels_are_enough(tmp_path: Path) -> None:
    draw(tmp_path / "data" / "a.png", 16, 16)
    assert run(tmp_path / "data") == 0


def test_mistakes_are_one_line_and_exit_code_2(market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(market, "--out_dir", str(market.parent)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {market.parent} must be absent, empty")


@pytest.mark.parametrize(
    ("option", "value", "rule"),
    [
        ("--scale", "1", "must be a whole number of 2 or more, got '1'"),
        ("--scale", "2.5", "must be a whole number of 2 or more, got '2.5'"),
        ("--scale", "-2", "of 2 or more, got '-2'"),
        ("--scale", "two", "of 2 or more, got 'two'"),
        ("--quality", "0", "must be a whole number from 1 to 100, got '0'"),
        ("--quality", "101", "from 1 to 100, got '101'"),
        ("--workers", "0", "must be a whole number from 1 to 256, got '0'"),
    ],
)
def test_wrong_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, rule: str
) -> None:
    arguments = {"--scale": "2", "--data_dir": str(tmp_path), option: value}
    with pytest.raises(SystemExit) as stop:
        main([word for pair in arguments.items() for word in pair])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: argument {option}")
    assert len(error.splitlines()) == 1
    assert rule in error


def die(_: object) -> None:
    os._exit(9)


def test_a_process_that_the_system_ends_is_told(
    market: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(make_low_resolution, "read_size", die)
    assert run(market, "--workers", "2") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: check sizes: all 2 processes must finish, but the system ended one")
    assert error.endswith("use fewer processes, by --workers where it is an option")


def test_the_root_has_nothing_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Path("/")) == 2
    assert capsys.readouterr().err == (
        "error: the data set's folder must have a name, got /; name the folder that holds the images\n"
    )


def test_a_mark_that_is_no_text_is_one_of_others(market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mark = market.parent / "market_x2" / "makelr.json"
    mark.parent.mkdir()
    mark.write_bytes(b"\xff\xfe\n" + bytes(100_000))
    assert run(market) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert "market_x2 must be absent, empty, or begun by the same command" in error
    assert len(error) < 1000
    assert [path.name for path in mark.parent.iterdir()] == ["makelr.json"]


def test_three_other_files_are_named_and_the_others_counted(market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "bcde":
        (market / f"{name}.txt").write_text("text")
    assert run(market) == 0
    assert "5 files of" in (text := capsys.readouterr().err)
    assert "are not copied: b.txt, c.txt, d.txt and 2 more" in text


def test_by_default_it_takes_the_cpus_that_it_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--scale", "2", "--data_dir", "."]
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 8}, raising=False)
    assert makelr.build_parser().parse_args(arguments).workers == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert makelr.build_parser().parse_args(arguments).workers == 64


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for word in (
        "--scale",
        "--data_dir",
        "--out_dir",
        "--quality",
        "--workers",
        "python makelr.py --scale 2",
    ):
        assert word in text
