"""Footage and boxes that tests write, and plain slices of the frames to compare crops with."""

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from datasets.convert.__main__ import main

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
