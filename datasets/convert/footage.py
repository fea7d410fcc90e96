"""Frames by their numbers from 1 on: of a video file, or of a folder of images."""

import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from datasets.low_resolution import read_size
from utils.errors import ReidError
from utils.images import is_image, read_image

_NUMBER = re.compile(r"(\d{1,18})\.[^.]+$")  # at the end of a name
_COPIES = re.compile(r"(?P<sequence>MOT17-\d+)-(FRCNN|DPM|SDP)")  # of the same frames and people
_IMAGES = "img1"  # of a sequence of the MOT Challenge

Load = Callable[[], np.ndarray]  # (H, W, 3) uint8 RGB


class Footage(Protocol):
    """Frames.

    Attributes:
        path: where they are.
        size: their height and width in pixels.
    """

    path: Path
    size: tuple[int, int]

    def check(self, frames: NDArray[np.int64], last: int) -> None:
        """Refuse numbers of frames that are not there.

        Args:
            frames: (N,) ascending, those that are read.
            last: the largest number that is spoken of.

        Raises:
            ReidError: naming one.
        """

    def read(self, frames: NDArray[np.int64]) -> Iterator[Load]:
        """What reads each of these frames, in any thread; numbers ascend.

        Raises:
            ReidError: also later, by what is returned: if a frame cannot be read.
        """


class Video:
    """A video that OpenCV can read, from its beginning to the last frame that is asked for.

    OpenCV cannot be trusted to jump to a frame: in many files the number is an estimate.

    Raises:
        ReidError: if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        pixels = next(self.read(np.ones(1, np.int64)))()
        self.size = pixels.shape[0], pixels.shape[1]

    def check(self, frames: NDArray[np.int64], last: int) -> None:  # noqa: ARG002 (see Footage)
        """See :meth:`Footage.check`; the frames are counted only if the file claims to have too few."""
        capture = self._open()
        count = int(capture.get(_cv2().CAP_PROP_FRAME_COUNT))
        if last > count:  # which some files do not know
            count = 0
            while count < last and capture.grab():
                count += 1
        if last > count:
            raise ReidError(
                f"frames of BOXES must be in the video, but BOXES has frame {last} and {self.path} {count} frames; "
                "give the boxes of this video"
            )

    def read(self, frames: NDArray[np.int64]) -> Iterator[Load]:
        """See :meth:`Footage.read`."""
        capture = self._open()
        position = 0
        for frame in frames.tolist():
            while position < frame - 1 and capture.grab():
                position += 1
            pixels = capture.read()[1] if position == frame - 1 else None
            if pixels is None:
                raise ReidError(
                    f"video {self.path} must have frame {frame}, but ends or is damaged after frame {position}; "
                    "repair the file (ffmpeg -i IN -c copy OUT), or remove the boxes behind it"
                )
            position = frame
            yield partial(_rgb, pixels)

    def _open(self) -> Any:  # noqa: ANN401 (OpenCV has no types)
        capture = _cv2().VideoCapture(str(self.path)) if self.path.is_file() else None
        if capture is None or not capture.isOpened():
            raise ReidError(
                f"VIDEO_OR_FRAMES must be a video that OpenCV can open or a folder of frames, got {self.path}; "
                "convert it (ffmpeg -i IN OUT.mp4)"
            )
        return capture


class FrameFolder:
    """Images whose names end in the number of their frame; if the lowest is 0, numbers count from 0.

    Raises:
        ReidError: if there are none, or two have a number.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        names = sorted(name for name in os.listdir(path) if is_image(name))  # noqa: PTH208 (names only)
        numbers = [int(match[1]) for name in names if (match := _NUMBER.search(name))]
        if not numbers or len(set(numbers)) < len(names):
            raise ReidError(
                "VIDEO_OR_FRAMES must be a video or a folder of images whose names end in the number of the frame, "
                f"like 000001.jpg, but {path} has {len(names)} images with {len(set(numbers))} numbers; rename them"
            )
        shift = 1 - min(1, *numbers)
        self._names = dict(zip((number + shift for number in numbers), names, strict=True))
        size = read_size(path / names[0])
        if isinstance(size, str):
            raise ReidError(size)
        self.size = size

    def check(self, frames: NDArray[np.int64], last: int) -> None:
        """See :meth:`Footage.check`."""
        absent = [frame for frame in (*frames.tolist(), last) if frame not in self._names]
        if absent:
            raise ReidError(
                f"frames of BOXES must be in the folder, but {self.path} has frames {min(self._names)} to "
                f"{max(self._names)} and not {absent[0]}; give the boxes of these frames"
            )

    def read(self, frames: NDArray[np.int64]) -> Iterator[Load]:
        """See :meth:`Footage.read`."""
        for frame in frames.tolist():
            yield partial(_read_file, self.path / self._names[frame], self.size)


class Source(NamedTuple):
    """A video or a sequence, by its name, and the file of its boxes."""

    name: str
    footage: Path
    boxes: Path


def open_footage(path: Path) -> Footage:
    """The frames of a video file, of a folder of images, or of a sequence of the MOT Challenge.

    Raises:
        ReidError: if it is none of these.
    """
    return FrameFolder(_images_of(path)) if path.is_dir() else Video(path)


def find_sources(footage: Path, boxes: Path) -> list[Source]:
    """What belongs together.

    Args:
        footage: a video, a folder of frames, a sequence (a folder with ``img1``), or a folder of sequences or videos.
        boxes: a file; or a folder that has them as ``NAME/gt/gt.txt``, ``gt/gt.txt`` or ``NAME.txt``.

    Returns:
        One, or those of several that have boxes, in the order of their names. Of the copies that MOT17 has of a
        sequence, the first one with boxes counts.

    Raises:
        ReidError: if there is nothing.
    """
    if not (footage.exists() and boxes.exists()):
        raise ReidError(
            f"VIDEO_OR_FRAMES and BOXES must exist, but {boxes if footage.exists() else footage} does not"
        )
    candidates = _candidates(footage)
    alone = candidates == [footage]
    if not boxes.is_dir():
        if not alone:
            raise ReidError(
                f"BOXES must be a folder where there are several sequences or videos, but {boxes} is a file and "
                f"{footage} has {len(candidates)} of them; give one of these, or the folder of all boxes"
            )
        return [Source(_name(footage), footage, boxes)]
    sources: dict[str, Source] = {}
    for path in sorted(candidates, key=lambda path: ("FRCNN" not in path.name, path.name)):
        name = _name(path)
        places = [
            boxes / name / "gt" / "gt.txt",
            boxes / f"{name}.txt",
            *([boxes / "gt" / "gt.txt"] if alone else []),
        ]
        if file := next((place for place in places if place.is_file() and place != path), None):
            match = _COPIES.fullmatch(name)
            sources.setdefault(match["sequence"] if match else name, Source(name, path, file))
    if not sources:
        raise ReidError(
            f"BOXES must be a file, or a folder with NAME.txt or NAME/gt/gt.txt for a video or sequence NAME of "
            f"{footage}, but {boxes} has none; give the file"
        )
    return sorted(sources.values())


def _candidates(footage: Path) -> list[Path]:
    """``footage`` itself, if it is one; else the sequences in it, else the files that may be videos."""
    if footage.is_file() or (footage / _IMAGES).is_dir():
        return [footage]
    entries = sorted(footage.iterdir())
    if any(is_image(path.name) for path in entries):
        return [footage]
    folders = [path for path in entries if (path / _IMAGES).is_dir()]
    return folders or [path for path in entries if path.is_file()]


def _name(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _images_of(folder: Path) -> Path:
    return folder / _IMAGES if (folder / _IMAGES).is_dir() else folder


def _rgb(pixels: np.ndarray) -> np.ndarray:
    return pixels[:, :, ::-1]  # OpenCV has BGR


def _read_file(path: Path, size: tuple[int, int]) -> np.ndarray:
    pixels = read_image(path).permute(1, 2, 0).numpy()
    if pixels.shape[:2] != size:
        height, width = pixels.shape[:2]
        raise ReidError(
            f"frames must have one size, but {path} has {height} x {width} pixels, not {size[0]} x {size[1]}"
        )
    return pixels


def _cv2() -> Any:  # noqa: ANN401 (OpenCV has no types)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # it reports on stderr what the caller raises
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2
