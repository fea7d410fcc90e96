"""Cut people out of frames into Market-1501 layout: in parallel and resumable; the folder is whole or absent."""

import json
import logging
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from datasets.readers.market import CONVERSION_MARK, MarketLayout
from datasets.sample import DISTRACTOR_ID
from utils.errors import ReidError
from utils.files import has_mark, write_text, written_aside
from utils.images import read_image
from utils.processes import each

logger = logging.getLogger(__name__)

TRAIN, QUERY, GALLERY = MarketLayout.train, MarketLayout.query, MarketLayout.gallery


class Box(NamedTuple):
    """A rectangle in whole pixels from the upper left corner of the frame; x1 and y1 lie just outside of it."""

    x0: int
    y0: int
    x1: int
    y1: int


class Crop(NamedTuple):
    """An image to write: its split (a folder's name), identity, file name, and place in the frame."""

    split: str
    person_id: int
    name: str
    box: Box


class Frame(NamedTuple):
    """A frame, its size in pixels, and everything to cut out of it."""

    path: Path
    height: int
    width: int
    crops: tuple[Crop, ...]


def clip_box(corner: tuple[float, float], size: tuple[float, float], frame: tuple[int, int]) -> Box | None:
    """Round a box to whole pixels and clip it to the frame.

    Args:
        corner: left and top, in pixels from 0.
        size: width and height of the box, in pixels.
        frame: height and width of the frame, in pixels.

    Returns:
        The box, or None if no part of it lies in the frame.
    """
    x0, x1 = (_pixel(x, frame[1]) for x in (corner[0], corner[0] + size[0]))
    y0, y1 = (_pixel(y, frame[0]) for y in (corner[1], corner[1] + size[1]))
    return Box(x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _pixel(value: float, end: int) -> int:
    return min(max(math.floor(value + 0.5), 0), end)


def write_crops(
    frames: Sequence[Frame], out: Path, mark: Mapping[str, object], *, quality: int = 95, workers: int = 1
) -> None:
    """Write all crops as JPEG files; each frame is decoded once.

    ``out`` appears when it is complete; until then the files are in ``{out}.unfinished``, where a repeated command
    goes on. In a complete folder a repeated command makes missing files.

    Args:
        frames: what to cut out of which file.
        out: the folder to make.
        mark: values that identify this conversion; the folder stores them.
        quality: of the JPEG files, 1 to 100.
        workers: processes.

    Raises:
        ReidError: if a split has no image, if two images have the same name, if another command made the folder, or
            if a frame cannot be read (the crops of the others are then written).
    """
    out = out.resolve()  # a link stays, and its target is made
    names = _names(frames)
    folder = begin_folder(out, mark)
    present = {f"{split}/{name}" for split in (TRAIN, QUERY, GALLERY) for name in _listing(folder / split)}
    if others := sorted(present - names):
        raise ReidError(
            f"{folder} must hold images of this conversion only, but has {len(others)} others, first "
            f"{others[0]}; remove the folder or give another OUT"
        )
    if present:
        logger.info("%d crops are finished and skipped", len(present))
    rest = [frame._replace(crops=tuple(c for c in frame.crops if _key(c) not in present)) for frame in frames]
    unfinished = [frame for frame in rest if frame.crops]
    work = partial(_write_frame, folder=folder, quality=quality)
    if faults := [fault for fault in each(work, unfinished, workers, "cut out people", "frame") if fault]:
        raise ReidError(
            f"all frames must be readable, but {len(faults)} are not: {'; '.join(faults[:3])}; the others are done "
            f"in {folder}: repair these and repeat the command"
        )
    finish_folder(folder, out)
    _report(frames, out)


def begin_folder(out: Path, mark: Mapping[str, object]) -> Path:
    """The folder to work in: ``out`` if it is finished, else ``{out}.unfinished`` beside it.

    Args:
        out: the folder to make, resolved.
        mark: values that identify this conversion; the folder stores them.

    Raises:
        ReidError: if another command made the folder.
    """
    begun = out.exists() and not (out.is_dir() and not any(out.iterdir()))
    folder = out if begun else out.with_name(f"{out.name}.unfinished")
    text = json.dumps(mark)
    if not has_mark(folder, CONVERSION_MARK, text, "OUT"):
        write_text(folder / CONVERSION_MARK, text)
    return folder


def finish_folder(folder: Path, out: Path) -> None:
    """Give the folder of :func:`begin_folder` the name ``out``; one of this name is empty."""
    if folder != out:
        if out.is_dir():
            out.rmdir()
        folder.rename(out)


def write_crop(pixels: np.ndarray, crop: Crop, folder: Path, quality: int) -> None:
    """Write a crop as a JPEG file, whole or not at all.

    Args:
        pixels: (H, W, 3) uint8 RGB, the frame.
        crop: what to cut out.
        folder: that holds the folder of its split.
        quality: 1 to 100.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels[crop.box.y0 : crop.box.y1, crop.box.x0 : crop.box.x1]))
    content = BytesIO()  # Pillow itself would not notice that a full disk takes a part of the last bytes only
    # Chroma at full resolution: a distant person's clothes are a few pixels wide.
    image.save(content, "JPEG", quality=quality, subsampling=0)
    with written_aside(folder / crop.split / crop.name) as aside:
        aside.write_bytes(content.getvalue())


def _key(crop: Crop) -> str:
    return f"{crop.split}/{crop.name}"


def _names(frames: Sequence[Frame]) -> set[str]:
    """The names of all crops; each must occur once, and every split must have some."""
    counts = Counter(_key(crop) for frame in frames for crop in frame.crops)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ReidError(
            f"a person must be annotated once in a frame, but {len(twice)} crops occur twice, first "
            f"{twice[0]}; remove one of the annotations"
        )
    splits = {crop.split for frame in frames for crop in frame.crops}
    if missing := [split for split in (TRAIN, QUERY, GALLERY) if split not in splits]:
        raise ReidError(f"each split must have images, but {', '.join(missing)} would have none; see --help")
    return set(counts)


def _listing(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208 (names, not paths)


def _write_frame(frame: Frame, folder: Path, quality: int) -> str:
    """Write the crops of one frame; return what is wrong with it, or an empty text."""
    try:
        pixels = read_image(frame.path).permute(1, 2, 0).contiguous().numpy()
    except ReidError as error:
        return str(error)
    if pixels.shape[:2] != (frame.height, frame.width):
        height, width = pixels.shape[:2]
        return f"{frame.path} is {height} x {width} pixels, not {frame.height} x {frame.width} (height x width)"
    for crop in frame.crops:
        write_crop(pixels, crop, folder, quality)
    return ""


def _report(frames: Sequence[Frame], out: Path) -> None:
    crops = [crop for frame in frames for crop in frame.crops]
    for split in (TRAIN, QUERY, GALLERY):
        ids = [crop.person_id for crop in crops if crop.split == split]
        distractors = ids.count(DISTRACTOR_ID)
        extra = f", {distractors} distractors among them" if distractors else ""
        logger.info("%s: %d identities, %d images%s", split, len({*ids} - {DISTRACTOR_ID}), len(ids), extra)
    logger.info("the data set is in %s", out)
