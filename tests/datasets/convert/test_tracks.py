"""Footage that the tests write, with boxes of every kind; the crops are compared with plain slices of the frames."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from datasets.convert import tracks
from datasets.readers import read_dataset
from tests.datasets.convert.footage_files import (
    CROPS,
    LENGTH,
    convert,
    cut,
    decoded,
    files,
    frame,
    write_boxes,
    write_frames,
    write_video,
)
from tests.support import memory_budget, message_with


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
