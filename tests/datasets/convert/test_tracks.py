"""Footage that the tests write, with boxes of every kind; the crops are compared with plain slices of the frames."""

import io
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets.convert import footage, tracks
from datasets.convert.__main__ import main
from datasets.readers import read_dataset
from tests.datasets.convert.support import refusal
from tests.support import memory_budget, message_with

HEIGHT, WIDTH, LENGTH = 120, 160, 7
SIZES = ("--min-height", "30", "--min-width", "10")

# frame,id,x,y,w,h,confidence
BOXES = """\
3,7,20.6,10.2,30,80,0.9,-1,-1,-1
1,7,10,10,30,80,0.9,-1,-1,-1

1,2,-9.6,-4,40.2,90,0.8,-1,-1,-1
5,2,90,50,100,100,0.4,-1,-1,-1
2,7,15,10,30,80,0.9,-1,-1,-1
1,-1,60,20,30,50,0.7,-1,-1,-1
1,-1,70,20,30,50,0.6,-1,-1,-1
5,9,60,20,30,50,0,-1,-1,-1
1,3,60,20,9,50,0.9,-1,-1,-1
3,3,60,20,30,29,0.9,-1,-1,-1
3,3,300,20,30,50,0.9,-1,-1,-1
""".replace("3,3,300", "5,3,300")
# File -> frame, (left, top, right, bottom), worked out by hand for --every 2.
CROPS = {
    "0000/0000_c1s1_000001_03.jpg": (1, (60, 20, 90, 70)),
    "0000/0000_c1s1_000001_04.jpg": (1, (70, 20, 100, 70)),
    "0002/0002_c1s1_000001_02.jpg": (1, (0, 0, 31, 86)),
    "0002/0002_c1s1_000005_01.jpg": (5, (90, 50, 160, 120)),
    "0007/0007_c1s1_000001_01.jpg": (1, (10, 10, 40, 90)),
    "0007/0007_c1s1_000003_01.jpg": (3, (21, 10, 51, 90)),
}


def frame(number: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB, smooth enough for a video."""
    small = np.random.default_rng(number).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def write_video(path: Path, length: int = LENGTH, fourcc: str = "MJPG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*fourcc), 25, (WIDTH, HEIGHT))
    for number in range(1, length + 1):
        writer.write(np.ascontiguousarray(frame(number)[:, :, ::-1]))
    writer.release()
    return path


def write_frames(folder: Path, name: Callable[[int], str] = "{:06d}.png".format, length: int = LENGTH) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, length + 1):
        Image.fromarray(frame(number)).save(folder / name(number))
    return folder


def write_boxes(path: Path, text: str = BOXES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def files(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.glob("*/*")}


def jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def cut(pixels: dict[int, np.ndarray], crops: dict[str, tuple[int, tuple[int, int, int, int]]]) -> dict[str, bytes]:
    """The files that must be there: plain slices of the frames."""
    return {
        name: jpeg(np.ascontiguousarray(pixels[number][top:bottom, left:right]))
        for name, (number, (left, top, right, bottom)) in crops.items()
    }


def decoded(video: Path) -> dict[int, np.ndarray]:
    capture, frames = cv2.VideoCapture(str(video)), {}
    while True:
        good, pixels = capture.read()
        if not good:
            return frames
        frames[len(frames) + 1] = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def convert(video: Path, boxes: Path, out: Path, *options: str) -> Path:
    return main(arguments(video, boxes, out, *options))


def arguments(video: Path, boxes: Path, out: Path, *options: str) -> list[str]:
    return ["tracks", *map(str, (video, boxes, out)), *SIZES, "--every", "2", "--workers", "2", *options]


@pytest.mark.parametrize(("name", "fourcc"), [("gate.avi", "MJPG"), ("gate.mp4", "mp4v"), ("gate.mkv", "FFV1")])
def test_names_and_pixels_of_a_video(
    tmp_path: Path, name: str, fourcc: str, caplog: pytest.LogCaptureFixture
) -> None:
    video = write_video(tmp_path / name, fourcc=fourcc)
    with caplog.at_level(logging.INFO):
        out = convert(video, write_boxes(tmp_path / "boxes.txt"), tmp_path / "out")
    frames = decoded(video)
    assert len(frames) == LENGTH
    assert files(out) == cut(frames, CROPS)
    assert message_with(caplog, "gate: camera 1, 6 of 11 boxes, 2 tracks")
    assert message_with(caplog, "6 crops of 2 tracks are in")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boxes.txt", name, "out"]


@pytest.mark.parametrize(
    "name",
    [
        "{:06d}.png".format,
        "gate2_{}.png".format,
        lambda number: f"{number - 1:08d}.png",  # from 0
    ],
)
def test_frames_by_the_number_in_their_names(tmp_path: Path, name: Callable[[int], str]) -> None:
    folder = write_frames(tmp_path / "frames", name)
    (folder / "notes.txt").write_text("text")
    out = convert(folder, write_boxes(tmp_path / "boxes.txt"), tmp_path / "out")
    assert files(out) == cut({number: frame(number) for number in range(1, LENGTH + 1)}, CROPS)


def test_rules(tmp_path: Path) -> None:
    video, boxes = write_video(tmp_path / "a.avi"), write_boxes(tmp_path / "boxes.txt")
    out = convert(video, boxes, tmp_path / "1", "--min-confidence", "0.85", "--every", "1", "--camera", "4")
    assert set(files(out)) == {f"0007/0007_c4s1_00000{number}_01.jpg" for number in (1, 2, 3)}
    out = convert(video, boxes, tmp_path / "2", "--min-height", "85", "--every", "4")
    assert set(files(out)) == {"0002/0002_c1s1_000001_01.jpg"}
    out = convert(video, boxes, tmp_path / "3", "--min-width", "9")
    assert set(files(out)) == {*CROPS, "0003/0003_c1s1_000001_05.jpg"}


ANNOTATION = """\
1,0,10,10,30,80,1,1,1
1,1,20,10,30,80,0,1,1
1,2,30,10,30,80,1,7,1
3,0,40,10,30,80,1,1,0.25
5,5,50,10,30,80,1,1,0.5
""".replace(",", ", ")


def test_ground_truth(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its flag, classes and visibility count; an id 0 (SportsMOT) is a person like any other."""
    sequence = tmp_path / "train" / "v_1_c001"
    write_frames(sequence / "img1")
    boxes = write_boxes(sequence / "gt" / "gt.txt", ANNOTATION)
    with caplog.at_level(logging.INFO):
        out = convert(sequence, boxes, tmp_path / "out")
    assert set(files(out)) == {
        *("0001/0001_c1s1_000001_01.jpg", "0001/0001_c1s1_000003_01.jpg", "0006/0006_c1s1_000005_01.jpg")
    }
    assert message_with(caplog, "v_1_c001: camera 1, 3 of 5 boxes, 2 tracks; identity = id + 1")
    out = convert(sequence, sequence, tmp_path / "visible", "--min-visibility", "0.5", "--classes", "1", "7")
    assert set(files(out)) == {
        *("0001/0001_c1s1_000001_01.jpg", "0003/0003_c1s1_000001_02.jpg", "0006/0006_c1s1_000005_01.jpg")
    }


def test_several_sequences_with_ground_truth(tmp_path: Path) -> None:
    for name, shift in (("MOT17-02-DPM", 0), ("MOT17-02-FRCNN", 0), ("MOT17-04-FRCNN", 20)):
        write_frames(tmp_path / "train" / name / "img1")
        write_boxes(tmp_path / "train" / name / "gt" / "gt.txt", f"1,1,{shift},10,30,80,1,1,1\n")
    write_frames(tmp_path / "train" / "MOT17-05-FRCNN" / "img1")  # without boxes
    out = convert(tmp_path / "train", tmp_path / "train", tmp_path / "out")
    assert files(out) == cut({1: frame(1)}, {
        "1000001/1000001_c1s1_000001_01.jpg": (1, (0, 10, 30, 90)),
        "2000001/2000001_c2s2_000001_01.jpg": (1, (20, 10, 50, 90)),
    })  # fmt: skip


def test_several_cameras_with_results_of_a_tracker(tmp_path: Path) -> None:
    for name in ("gate", "lobby"):
        write_video(tmp_path / "videos" / f"{name}.avi")
        write_boxes(tmp_path / "results" / f"{name}.txt", "1,8,10,10,30,80,1\n1,-1,20,10,30,80,1\n")
    write_video(tmp_path / "videos" / "yard.avi")
    out = convert(tmp_path / "videos", tmp_path / "results", tmp_path / "out", "--camera", "3")
    assert set(files(out)) == {
        *("0000/0000_c3s1_000001_02.jpg", "0000/0000_c4s2_000001_02.jpg"),
        *("1000008/1000008_c3s1_000001_01.jpg", "2000008/2000008_c4s2_000001_01.jpg"),
    }


def test_tracks_are_a_data_set_to_train_on(tmp_path: Path) -> None:
    rows = "".join(f"{number},{track},{20 * track},10,30,80,1\n" for number in range(1, 6) for track in range(1, 5))
    out = convert(write_video(tmp_path / "a.avi"), write_boxes(tmp_path / "boxes.txt", rows), tmp_path / "out")
    splits = read_dataset(str(out), tmp_path)
    assert len({sample.person_id for sample in splits.train}) == 2
    assert (len(splits.train), len(splits.query), len(splits.gallery)) == (6, 2, 4)
    assert (
        convert(tmp_path / "a.avi", tmp_path / "boxes.txt", out) == out
    )  # the split that lies there disturbs nothing


def test_frames_wait_within_the_budget(tmp_path: Path) -> None:
    video, boxes = write_video(tmp_path / "a.avi"), write_boxes(tmp_path / "boxes.txt")
    with memory_budget(1):
        out = convert(video, boxes, tmp_path / "out", "--workers", "8")
    assert files(out) == cut(decoded(video), CROPS)


def test_going_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video, boxes, out = write_video(tmp_path / "a.avi"), write_boxes(tmp_path / "boxes.txt"), tmp_path / "out"
    write_crop = tracks.write_crop

    def stop(pixels: np.ndarray, crop: tracks.Crop, *more: object) -> None:
        if "000003" in crop.name:
            raise KeyboardInterrupt
        write_crop(pixels, crop, *more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(tracks, "write_crop", stop)
        with pytest.raises(KeyboardInterrupt):
            convert(video, boxes, out, "--workers", "1")
    assert not out.exists()
    unfinished = tmp_path / "out.unfinished"
    before = {path: path.stat().st_mtime_ns for path in unfinished.glob("*/*")}
    assert 0 < len(before) < len(CROPS)
    (unfinished / "0007" / ".0007_c1s1_000003_01.jpg.1.part").write_bytes(b"half")
    convert(video, boxes, out, "--workers", "1")
    assert files(out) == cut(decoded(video), CROPS)
    assert all((out / path.relative_to(unfinished)).stat().st_mtime_ns == time for path, time in before.items())
    (out / "0007" / "0007_c1s1_000003_01.jpg").unlink()
    convert(video, boxes, out, "--workers", "1")
    assert files(out) == cut(decoded(video), CROPS)


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
    import subprocess
    import sys

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
