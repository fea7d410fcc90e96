"""Write low-resolution copies of a data set's images: the work of makelr.py."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from datasets.low_resolution import low_resolution_sibling, read_size
from utils.errors import ReidError, one_line
from utils.files import has_mark, write_text, written_aside
from utils.images import is_image, open_image
from utils.processes import each
from utils.resolution import SMALLEST_SIDE, low_resolution_size

logger = logging.getLogger(__name__)

LOW_RESOLUTION_MARK = "makelr.json"  # in each folder that we made; it says how
_METADATA = {"exif", "icc_profile"}  # orientation and colors hold for the small image too
_OPTIONS: dict[str, dict[str, Any]] = {
    # Chroma at full resolution: halving it once more doubles the largest error of so small an image.
    "JPEG": {"subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {"compression": "tiff_lzw"},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}


class Target(NamedTuple):
    """A file or folder to make, and the scale by which its images are smaller than those of the source."""

    path: Path
    scale: int


class ImageTask(NamedTuple):
    """One image of the source and the files to make of it."""

    source: Path
    targets: tuple[Target, ...]


class Plan(NamedTuple):
    """The work: unfinished images, number of finished files, files that are not images, mark of each folder."""

    tasks: tuple[ImageTask, ...]
    finished: int
    others: tuple[Path, ...]
    marks: Mapping[Path, str]


def targets_of(data_dir: Path, scales: Sequence[int], out_dir: Path | None) -> list[Target]:
    """The folders to make: beside the data set, in ``out_dir``, or for one scale ``out_dir`` itself."""
    scales = sorted(set(scales))
    if out_dir is not None and len(scales) == 1:
        return [Target(out_dir, scales[0])]
    siblings = [Target(low_resolution_sibling(data_dir, scale), scale) for scale in scales]
    return [Target(out_dir / folder.name, scale) for folder, scale in siblings] if out_dir else siblings


def make_low_resolution(
    data_dir: Path, targets: Sequence[Target], *, quality: int = 95, workers: int = 1
) -> list[str]:
    """Make the folders; everything that can be checked is checked before the first file is written.

    Args:
        data_dir: the data set.
        targets: the folders to make and their scales.
        quality: of JPEG files, 1 to 100.
        workers: processes.

    Returns:
        One message for each image that cannot be read.

    Raises:
        ReidError: as :func:`make_plan`, or if an image is too small for a scale or a file cannot be written.
    """
    plan = make_plan(data_dir, targets, quality)
    _report(data_dir, plan)
    headers = each(read_size, [task.source for task in plan.tasks], workers, "check sizes")
    sizes = {task: size for task, size in zip(plan.tasks, headers, strict=True) if not isinstance(size, str)}
    _check_sizes(sizes)
    for folder, mark in plan.marks.items():
        write_text(folder / LOW_RESOLUTION_MARK, mark)
    faults = each(partial(make_images, quality=quality), list(sizes), workers, "low resolution")
    count = sum(len(task.targets) for task, fault in zip(sizes, faults, strict=True) if not fault)
    logger.info("%d files written to %s", count, ", ".join(map(str, plan.marks)))
    return [size for size in headers if isinstance(size, str)] + [fault for fault in faults if fault]


def make_plan(source: Path, targets: Sequence[Target], quality: int) -> Plan:
    """Find the remaining work; write nothing, but remove the half-written files of a killed run.

    Args:
        source: the data set's folder, including its sub-folders.
        targets: the folders to make.
        quality: of JPEG files, 1 to 100.

    Raises:
        ReidError: if ``source`` has no image, or a target lies in it or was not made by the same command.
    """
    images, others = _scan(source)
    marks = {folder: _mark(source, folder, scale, quality) for folder, scale in targets}
    files = {name: [Target(folder / name, scale) for folder, scale in targets] for name in images}
    missing = {name: tuple(file for file in files[name] if not file.path.exists()) for name in images}
    tasks = tuple(ImageTask(source / name, parts) for name, parts in missing.items() if parts)
    finished = len(images) * len(targets) - sum(len(task.targets) for task in tasks)
    return Plan(tasks, finished, tuple(others), marks)


def make_images(task: ImageTask, quality: int) -> str:
    """Write the files of one image; return what is wrong with it, or an empty text.

    Raises:
        ReidError: if a file cannot be written.
    """
    try:
        with open_image(task.source) as image:
            contents = [_encode(downsample(image, scale), image.format, quality) for _, scale in task.targets]
    except Exception as error:  # as in read_size
        return f"cannot read image {task.source}: {one_line(error)}"
    for target, content in zip(task.targets, contents, strict=True):
        _write(target.path, content)
    return ""


def downsample(image: Image.Image, scale: int) -> Image.Image:
    """Bicubic with antialiasing, the same as torch's except for rounding; palettes become colors first."""
    if image.mode in ("1", "P", "PA"):  # Pillow would pick the nearest pixels
        image = image.convert("L" if image.mode == "1" else "RGBA" if image.has_transparency_data else "RGB")
    height, width = low_resolution_size(image.height, image.width, scale)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _scan(source: Path) -> tuple[list[Path], list[Path]]:
    """Images and other files, relative to ``source``."""
    if not source.is_dir():
        raise ReidError(f"--data_dir must be the folder of a data set, but {source} is not a folder")
    images, others = list[Path](), list[Path]()
    for folder, folders, names in os.walk(source, followlinks=True, onerror=_refuse_folder):
        here = Path(folder)
        # A link to a folder above it, or above a link on the way to it, would have no end.
        above = [path.resolve() for path in (here, *here.parents)]
        targets = {name: (here / name).resolve() for name in folders}
        folders[:] = [name for name in folders if not any(path.is_relative_to(targets[name]) for path in above)]
        for path in map(here.joinpath, names):
            (images if is_image(path.name) else others).append(path.relative_to(source))
    if not images:
        raise ReidError(f"--data_dir must hold images, but {source} has none ({len(others)} other files)")
    return sorted(images), sorted(others)


def _refuse_folder(error: OSError) -> None:
    raise ReidError(f"all folders in --data_dir must be readable, but {error}") from error


def _mark(source: Path, folder: Path, scale: int, quality: int) -> str:
    """The text that identifies this command; the folder must lie outside of the data set and hold nothing else."""
    if folder.resolve().is_relative_to(source.resolve()):
        raise ReidError(f"--out_dir must lie outside of the data set {source}, got {folder}")
    origin = Path(os.path.relpath(source.resolve(), folder.resolve())).as_posix()  # still true if both move
    mark = json.dumps({"made_by": "makelr.py", "source": origin, "scale": scale, "quality": quality})
    has_mark(folder, LOW_RESOLUTION_MARK, mark, "--out_dir")
    return mark


def _report(data_dir: Path, plan: Plan) -> None:
    if plan.finished:
        logger.info("%d files are finished and skipped", plan.finished)
    if plan.others:
        more = len(plan.others) - 3
        examples = ", ".join(map(str, plan.others[:3])) + (f" and {more} more" if more > 0 else "")
        message = "%d files of %s are not images by their endings and are not copied: %s"
        logger.warning(message, len(plan.others), data_dir, examples)


def _check_sizes(sizes: Mapping[ImageTask, tuple[int, int]]) -> None:
    """Refuse scales that leave too little of an image, and log what the others leave.

    Args:
        sizes: height and width of each image in pixels.
    """
    lows = sorted(
        (low_resolution_size(*size, scale), scale, task.source)
        for task, size in sizes.items()
        for _, scale in task.targets
    )
    if small := [low for low in lows if min(low[0]) < SMALLEST_SIDE]:
        (height, width), scale, path = min(small, key=lambda low: min(low[0]))
        raise ReidError(
            f"--scale {scale} must leave {SMALLEST_SIDE} pixels or more on each side, but {path} becomes "
            f"{height} x {width} (height x width), the smallest of {len(small)} such images; "
            "use a smaller scale, or remove them"
        )
    for scale in sorted({low[1] for low in lows}):
        of_scale = [low[0] for low in lows if low[1] == scale]
        first, last = (f"{height} x {width}" for height, width in (of_scale[0], of_scale[-1]))
        logger.info("x%d: %s pixels (height x width)", scale, first if first == last else f"{first} to {last}")


def _encode(image: Image.Image, file_format: str | None, quality: int) -> bytes:
    options: dict[str, Any] = {key: image.info[key] for key in _METADATA & image.info.keys()}
    if file_format in ("JPEG", "MPO"):  # MPO: a camera's JPEG with a preview
        file_format, options["quality"] = "JPEG", quality
    buffer = BytesIO()
    image.save(buffer, file_format, **options, **_OPTIONS.get(str(file_format), {}))
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    try:
        with written_aside(path) as aside:
            aside.write_bytes(content)
    except OSError as error:
        raise ReidError(f"{path} must be writable, but {error}; repair that and repeat the command") from error
