"""Footage and boxes that do not fit: one line that names what, and nothing is left."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import pytest
from PIL import Image

from datasets.convert import footage
from tests.datasets.convert.footage_files import (
    BOXES,
    CROPS,
    arguments,
    convert,
    cut,
    decoded,
    files,
    frame,
    write_boxes,
    write_frames,
    write_video,
)
from tests.datasets.convert.support import refusal


def test_other_boxes_do_not_join_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video, boxes, out = write_video(tmp_path / "a.avi"), write_boxes(tmp_path / "boxes.txt"), tmp_path / "out"
    convert(video, boxes, out)
    before = files(out)
    write_boxes(boxes, BOXES + "7,7,20,10,30,80,0.9\n")
    assert "must be absent, empty, or begun by the same command" in refusal(arguments(video, boxes, out), capsys)
    assert files(out) == before


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("1,1,2,3,4,5", "line 2 of {boxes} is '1,1,2,3,4,5'; correct or remove it"),
        ("frame,id,x,y,w,h,confidence", "must be 'frame,id,x,y,w,h,confidence,...'"),
        ("0,1,2,3,4,5,1", "frames from 1 and ids whole, but line 2"),
        ("1.5,1,2,3,4,5,1", "frames from 1 and ids whole, but line 2"),
        ("1,1.5,2,3,4,5,1", "frames from 1 and ids whole, but line 2"),
        ("1,1,nan,3,4,5,1", "but line 2 of"),
        ("1,1,1e99,3,4,5,1", "but line 2 of"),
        ("1,1,\udcff,3,4,5,1", "but line 2 of"),
        ("1,7,2,3,40,50,1", "lines 1 and 2 of {boxes} have track 7 in frame 1 twice"),
        ("8,1,2,3,4,5,1", "BOXES has frame 8 and {video} 7 frames; give the boxes of this video"),
    ],
)
@pytest.mark.parametrize("kind", ["video", "frames"])
def test_wrong_boxes_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, line: str, rule: str
) -> None:
    video = write_video(tmp_path / "a.avi") if kind == "video" else write_frames(tmp_path / "a")
    boxes = tmp_path / "boxes.txt"
    boxes.write_text(f"1,7,10,10,30,80,0.9\n{line}\n", errors="surrogateescape")
    message = refusal(arguments(video, boxes, tmp_path / "out"), capsys)
    if kind == "frames":
        rule = rule.replace("BOXES has frame 8 and {video} 7 frames", "{video} has frames 1 to 7 and not 8")
        rule = rule.replace("this video", "these frames")
    assert rule.format(boxes=boxes, video=video) in message
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("footage_name", "boxes_name", "rule"),
    [
        ("nowhere.mp4", "boxes.txt", "VIDEO_OR_FRAMES and BOXES must exist, but {tmp}/nowhere.mp4 does not"),
        ("a.avi", "nowhere.txt", "VIDEO_OR_FRAMES and BOXES must exist, but {tmp}/nowhere.txt does not"),
        ("boxes.txt", "boxes.txt", "must be a video that OpenCV can open or a folder of frames, got {tmp}/boxes.txt"),
        (
            "odd",
            "boxes.txt",
            "names end in the number of the frame, like 000001.jpg, but {tmp}/odd has 2 images with 1",
        ),
        ("damaged", "boxes.txt", "cannot read image {tmp}/damaged/000001.jpg"),
        ("videos", "boxes.txt", "BOXES must be a folder where there are several sequences or videos, but"),
        (
            "a.avi",
            "videos",
            "or a folder with NAME.txt or NAME/gt/gt.txt for a video or sequence NAME of {tmp}/a.avi",
        ),
    ],
)
def test_wrong_footage_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], footage_name: str, boxes_name: str, rule: str
) -> None:
    write_video(tmp_path / "a.avi")
    write_boxes(tmp_path / "boxes.txt")
    for name in ("odd/1.jpg", "odd/a1.jpg", "damaged/000001.jpg", "videos/gate.mp4", "videos/lobby.mp4"):
        write_boxes(tmp_path / name, "nothing")
    message = refusal(arguments(tmp_path / footage_name, tmp_path / boxes_name, tmp_path / "out"), capfd)
    assert rule.format(tmp=tmp_path) in message
    assert not list(tmp_path.glob("out*"))


def test_a_file_that_is_no_video_is_one_line(tmp_path: Path) -> None:
    """FFmpeg's own reports, which would come before ours, are silent."""
    write_boxes(tmp_path / "boxes.txt")
    whole = write_video(tmp_path / "whole.mp4", fourcc="mp4v").read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    command = [
        sys.executable,
        "-m",
        "datasets.convert",
        *arguments(tmp_path / "half.mp4", tmp_path / "boxes.txt", tmp_path / "out"),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert "must be a video that OpenCV can open" in run.stderr


def test_a_video_that_ends_too_soon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its header promises all frames, so only reading shows it: what is cut out stays, and the command goes on."""
    whole = write_video(tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(whole[: len(whole) // 2])
    last = len(decoded(tmp_path / "a.avi"))
    assert last < 5
    message = refusal(arguments(tmp_path / "a.avi", write_boxes(tmp_path / "boxes.txt"), tmp_path / "out"), capsys)
    assert f"ends or is damaged after frame {last}; repair the file" in message
    assert not (tmp_path / "out").exists()
    (tmp_path / "a.avi").write_bytes(whole)
    out = convert(tmp_path / "a.avi", tmp_path / "boxes.txt", tmp_path / "out")
    assert files(out) == cut(decoded(tmp_path / "a.avi"), CROPS)


def test_the_number_of_frames_in_a_header_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    video = write_video(tmp_path / "a.avi")

    class Short:
        def __init__(self, path: str) -> None:
            self._capture = cv2_capture(path)

        def get(self, what: int) -> float:
            return 2.0 if what == cv2.CAP_PROP_FRAME_COUNT else self._capture.get(what)

        def __getattr__(self, name: str) -> object:
            return getattr(self._capture, name)

    cv2_capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", Short)
    out = convert(video, write_boxes(tmp_path / "boxes.txt"), tmp_path / "out")
    assert set(files(out)) == set(CROPS)
    boxes = write_boxes(tmp_path / "more.txt", BOXES + "9,7,20,10,30,80,0.9\n")
    assert "BOXES has frame 9 and" in refusal(arguments(video, boxes, tmp_path / "more"), capsys)


def test_a_frame_of_another_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_frames(tmp_path / "a")
    Image.fromarray(frame(3)[:100]).save(folder / "000003.png")
    message = refusal(arguments(folder, write_boxes(tmp_path / "boxes.txt"), tmp_path / "out"), capsys)
    assert "000003.png has 100 x 160 pixels, not 120 x 160" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [["--min-height", "200"], ["--min-confidence", "1"], ["--classes", "3"]])
def test_nobody_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str], options: Sequence[str]) -> None:
    video, boxes = write_video(tmp_path / "a.avi"), write_boxes(tmp_path / "boxes.txt")
    assert f"none of {boxes} is left; lower --min-height" in refusal(
        arguments(video, boxes, tmp_path / "out", *options), capsys
    )
    empty = write_boxes(tmp_path / "empty.txt", "\n")
    assert f"none of {empty} is left" in refusal(arguments(video, empty, tmp_path / "out"), capsys)
    assert not list(tmp_path.glob("out*"))


def test_ids_that_would_meet_those_of_the_next_sequence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        write_video(tmp_path / "videos" / f"{name}.avi")
        write_boxes(tmp_path / "results" / f"{name}.txt", "1,1000000,10,10,30,80,1\n")
    message = refusal(arguments(tmp_path / "videos", tmp_path / "results", tmp_path / "out"), capsys)
    assert "ids of several sequences must be less than 1000000" in message
    shutil.rmtree(tmp_path / "videos")
    video = write_video(tmp_path / "a.avi")
    out = convert(video, tmp_path / "results", tmp_path / "out")
    assert set(files(out)) == {"1000000/1000000_c1s1_000001_01.jpg"}
    assert footage.find_sources(video, tmp_path / "results")[0].name == "a"
