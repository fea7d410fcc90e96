"""The folder of a synthetic data set: layout, completeness, refusals, and the command."""

import json
import logging
import re
import subprocess
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path

import cv2
import pytest

import datasets.synthetic.dataset as synthetic
from datasets.synthetic import SyntheticSpec, draw_dataset
from datasets.synthetic.__main__ import main
from tests.support import message_with
from utils.errors import ReidError

SMALL = SyntheticSpec(
    train_ids=2, test_ids=3, cameras=2, images_per_camera=2, height=32, width=16, distractors=3, junk=2
)
SMALL_OPTIONS = [
    *("--train-ids", "2", "--test-ids", "3", "--cameras", "2", "--images-per-camera", "2"),
    *("--height", "32", "--width", "16", "--distractors", "3", "--junk", "2"),
]
NAME = re.compile(r"^(-1|\d{4})_c(\d)s1_(\d{6})_(\d{2})\.jpg$")


def read_names(folder: Path) -> list[tuple[int, int]]:
    matches = [NAME.match(path.name) for path in sorted(folder.iterdir())]
    return [(int(match[1]), int(match[2])) for match in matches if match]


def read_bytes(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*.*"))}


@pytest.fixture(scope="module")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_dataset(tmp_path_factory.mktemp("synthetic") / "set", SMALL)


def test_layout_is_that_of_market1501(small_set: Path) -> None:
    assert sorted(path.name for path in small_set.iterdir()) == [
        "bounding_box_test",
        "bounding_box_train",
        "query",
        "synthetic.json",
    ]
    train, query, gallery = (
        read_names(small_set / name) for name in ("bounding_box_train", "query", "bounding_box_test")
    )
    assert Counter(train) == {(person, camera): 2 for person in (1, 2) for camera in (1, 2)}
    assert Counter(query) == {(person, camera): 1 for person in (3, 4, 5) for camera in (1, 2)}
    people = Counter(pair for pair in gallery if pair[0] > 0)
    assert people == {(person, camera): 1 for person in (3, 4, 5) for camera in (1, 2)}
    assert Counter(person for person, _ in gallery if person <= 0) == {0: 3, -1: 2}


def test_every_file_is_an_image_of_the_given_size_with_something_on_it(small_set: Path) -> None:
    for path in small_set.glob("*/*.jpg"):
        image = cv2.imread(str(path))
        assert image is not None
        assert image.shape == (32, 16, 3)
        assert image.std() > 5


def test_the_same_data_set_is_not_drawn_twice(small_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> bytes:
        raise AssertionError("drawn again")

    monkeypatch.setattr(synthetic, "encode_image", refuse)
    assert draw_dataset(small_set, SMALL) == small_set


def test_an_empty_folder_is_filled_and_parents_are_made(small_set: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "a" / "b"):
        assert read_bytes(draw_dataset(out, SMALL)) == read_bytes(small_set)


def test_an_interrupted_drawing_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def interrupt(*_: object, **__: object) -> bytes:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return b"image"

    monkeypatch.setattr(synthetic, "encode_image", interrupt)
    with pytest.raises(KeyboardInterrupt):
        draw_dataset(tmp_path / "out", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_may_draw_the_same_folder(
    small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, encode_image = tmp_path / "out", synthetic.encode_image

    def draw_while_another_finishes(*arguments: object, **options: object) -> bytes:
        monkeypatch.setattr(synthetic, "encode_image", encode_image)
        draw_dataset(out, SMALL)
        return encode_image(*arguments, **options)

    monkeypatch.setattr(synthetic, "encode_image", draw_while_another_finishes)
    assert read_bytes(draw_dataset(out, SMALL)) == read_bytes(small_set)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_different_data_set_is_refused_with_the_difference(small_set: Path) -> None:
    with pytest.raises(ReidError, match=r"same synthetic data set, got .* with seed 0, not 3; remove it or give"):
        draw_dataset(small_set, SyntheticSpec(**{**vars(SMALL), "seed": 3}))


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ReidError, match=r"absent, empty or a synthetic data set, got the non-empty .*; remove it"):
        draw_dataset(tmp_path, SMALL)
    (tmp_path / "synthetic.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(ReidError, match=r"whose synthetic\.json is no specification; remove it"):
        draw_dataset(tmp_path, SMALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["holiday.txt", "synthetic.json"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ReidError, match=r"out must be a folder, got the file .*; remove it or give another folder"):
        draw_dataset(tmp_path / "file", SMALL)


@pytest.mark.parametrize("foreign", [True, False])
def test_a_missing_or_a_foreign_image_is_refused(tmp_path: Path, foreign: bool) -> None:
    out = draw_dataset(tmp_path / "out", SMALL)
    path = out / "query" / ("9999_c1s1_000001_01.jpg" if foreign else "0003_c1s1_000001_01.jpg")
    path.write_bytes(b"") if foreign else path.unlink()
    with pytest.raises(ReidError, match=rf"with 1 missing or foreign, such as query/{path.name}; remove it"):
        draw_dataset(out, SMALL)


def test_command_draws_the_same_files_in_another_process(small_set: Path, tmp_path: Path) -> None:
    root = Path(synthetic.__file__).parents[2]
    command = [sys.executable, "-m", "datasets.synthetic", str(tmp_path / "out"), *SMALL_OPTIONS]
    process = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert read_bytes(tmp_path / "out") == read_bytes(small_set)
    assert process.stderr.rstrip().endswith(f"25 images is in {tmp_path / 'out'}")


def test_main_logs_one_line_and_records_the_arguments(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        out = main([str(tmp_path / "out"), *SMALL_OPTIONS, "--seed", "4"])
    assert caplog.messages == [message_with(caplog, "25 images", str(out))]
    record = json.loads((out / "synthetic.json").read_text(encoding="utf-8"))
    assert record["kind"] == "synthetic"
    assert {name: record[name] for name in vars(SMALL)} == {**vars(SMALL), "seed": 4}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cameras", "1"], "cameras must be an integer from 2 to 9, got 1"),
        (["--cameras", "two"], "invalid int value: 'two'"),
        (["--camera-count", "2"], "unrecognized arguments: --camera-count 2"),
    ],
)
def test_a_wrong_argument_ends_with_one_line_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / "out"), *options])
    assert stop.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "out").exists()


def test_help_names_every_option_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for each in fields(SyntheticSpec):
        assert f"--{each.name.replace('_', '-')} N {each.metadata['help']} (default: {each.default})" in text
