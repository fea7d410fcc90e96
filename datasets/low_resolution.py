"""The low-resolution twin of a data set on disk: made by makelr.py, read by training."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from datasets.market_layout import IMAGE_SUFFIXES
from utils.atomic import write_text
from utils.errors import ReidError
from utils.resolution import low_resolution_size

MARK = "makelr.json"  # in each folder that we made: how it was made
SMALLEST_SIDE = 8  # pixels
_PART = ".part"  # ends the name of a file that is being written; no reader takes it for an image
_FORMATS: dict[str | None, dict[str, Any]] = {
    # Chroma at full resolution: halved once more it doubles the largest error of so small an image.
    "JPEG": {"subsampling": 0},
    "PNG": {},
    "BMP": {},
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {"compression": "tiff_lzw"},
}


class Target(NamedTuple):
    """A file or folder to make, and by how much its images are smaller than the source's."""

    path: Path
    scale: int


class Job(NamedTuple):
    """One image of the source and the files to make of it."""

    source: Path
    targets: tuple[Target, ...]


@dataclass(frozen=True)
class Plan:
    """What is to be done: unfinished images, files found finished, non-images, and the mark of each folder."""

    jobs: tuple[Job, ...]
    finished: int
    strangers: tuple[Path, ...]
    marks: Mapping[Path, str]


def low_resolution_sibling(folder: Path, scale: int) -> Path:
    """Where the twin of a data set lies: ``market1501`` and 2 give ``market1501_x2`` beside it."""
    whole = Path(os.path.abspath(folder))  # noqa: PTH100 (resolve() would go to where a link points)
    return whole.with_name(f"{whole.name}_x{scale}")


def low_resolution_folder(folder: Path, scale: int) -> Path:
    """The twin that makelr.py made of a data set.

    Raises:
        ReidError: if it does not exist.
    """
    if not (low := low_resolution_sibling(folder, scale)).is_dir():
        command = f'python makelr.py --scale {scale} --data_dir "{folder}"'
        raise ReidError(f"low-resolution folder {low} must exist, but does not; make it: {command}")
    return low


def paired_paths(paths: Sequence[Path], source: Path, low: Path) -> list[Path]:
    """The low-resolution file of each image: the one of the same name relative to the data set's folder.

    Raises:
        ReidError: if an image lies outside of ``source`` or has no file in ``low``.
    """
    try:
        pairs = [low / path.relative_to(source) for path in paths]
    except ValueError as error:
        raise ReidError(
            f"all images must lie in the data set's folder to have a twin, but {error}"
        ) from error
    present = {folder: _names(folder) for folder in {pair.parent for pair in pairs}}
    if missing := [pair for pair in pairs if pair.name not in present[pair.parent]]:
        raise ReidError(
            f"each image of {source} must have its twin in {low}, but {len(missing)} of {len(pairs)} have none, "
            f"first {missing[0]}; run the makelr.py command of that folder again: it makes what is missing"
        )
    return pairs


def _names(folder: Path) -> set[str]:
    return set(os.listdir(folder)) if folder.is_dir() else set()  # noqa: PTH208 (a Path per name is slow)


def make_plan(source: Path, targets: Sequence[Target], quality: int) -> Plan:
    """Find what is to be done; writes nothing, but removes what a killed run left half-written.

    A finished file that is older than its image in ``source`` is to be made again.

    Args:
        source: the data set's folder; its sub-folders are taken too.
        targets: the folders to make.
        quality: of JPEG files, 1 to 100.

    Raises:
        ReidError: if ``source`` has no image, or a target lies in it or was not made by the same command.
    """
    images, strangers = _scan(source)
    marks = {target.path: _checked_mark(source, target, quality) for target in targets}
    jobs = tuple(_unfinished(source, name, targets) for name in images)
    finished = len(images) * len(targets) - sum(len(job.targets) for job in jobs)
    return Plan(tuple(job for job in jobs if job.targets), finished, tuple(strangers), marks)


def _scan(source: Path) -> tuple[list[Path], list[Path]]:
    if not source.is_dir():
        raise ReidError(f"--data_dir must be the folder of a data set, but {source} is no folder")
    images: list[Path] = []
    strangers: list[Path] = []
    for folder, folders, names in os.walk(source, followlinks=True, onerror=_refuse_folder):
        here = Path(folder)
        # A link to a folder above itself would have no end.
        folders[:] = [name for name in folders if not here.resolve().is_relative_to((here / name).resolve())]
        for path in map(here.joinpath, names):
            (images if path.suffix.lower() in IMAGE_SUFFIXES else strangers).append(path.relative_to(source))
    if not images:
        raise ReidError(f"--data_dir must hold images, but {source} has none ({len(strangers)} other files)")
    return sorted(images), sorted(strangers)


def _refuse_folder(error: OSError) -> None:
    raise ReidError(f"all folders in --data_dir must be readable, but {error}") from error


def _checked_mark(source: Path, target: Target, quality: int) -> str:
    folder = target.path
    if folder.resolve().is_relative_to(source.resolve()):
        raise ReidError(f"--out_dir must lie outside of the data set {source}, got {folder}")
    origin = Path(os.path.relpath(source.resolve(), folder.resolve())).as_posix()  # holds if both move
    mark = json.dumps({"made_by": "makelr.py", "source": origin, "scale": target.scale, "quality": quality})
    found = (folder / MARK).read_text(encoding="utf-8") if (folder / MARK).is_file() else ""
    if found != mark and (found or folder.is_file() or (folder.is_dir() and any(folder.iterdir()))):
        raise ReidError(
            f"{folder} must be new, empty, or begun by the same command with the mark {mark}, "
            f"but it holds {found or 'something else'}; remove it or choose another --out_dir"
        )
    for left in folder.rglob(f".*{_PART}"):
        left.unlink(missing_ok=True)
    return mark


def _unfinished(source: Path, name: Path, targets: Sequence[Target]) -> Job:
    files = [Target(target.path / name, target.scale) for target in targets]
    changed = (source / name).stat().st_mtime
    return Job(
        source / name, tuple(f for f in files if not f.path.exists() or f.path.stat().st_mtime < changed)
    )


def read_size(path: Path) -> tuple[int, int] | str:
    """(height, width) in pixels from the header of an image file, or what is wrong with it."""
    try:
        with Image.open(path, formats=list(filter(None, _FORMATS))) as image:
            return image.height, image.width
    except Exception as error:  # noqa: BLE001 (decoders raise what they meet: struct.error, IndexError, ...)
        return _fault(path, error)


def _fault(path: Path, error: Exception) -> str:
    return f"cannot read image {path}: {' '.join(str(error).split()) or type(error).__name__}"


def check_sizes(sizes: Mapping[Job, tuple[int, int]]) -> None:
    """Refuse scales that leave too little of an image.

    Args:
        sizes: (height, width) of each image.

    Raises:
        ReidError: if a side would have less than :data:`SMALLEST_SIDE` pixels.
    """
    small = [
        (min(low), job.source, target.scale, size, low)
        for job, size in sizes.items()
        for target in job.targets
        if min(low := low_resolution_size(*size, target.scale)) < SMALLEST_SIDE
    ]
    if small:
        _, path, scale, (height, width), low = min(small)
        raise ReidError(
            f"--scale {scale} must leave {SMALLEST_SIDE} pixels on each side, but {path} of {height}x{width} "
            f"(height x width) becomes {low[0]}x{low[1]}, the smallest of {len(small)} that are too small; "
            "use a smaller scale or remove them"
        )


def make_images(job: Job, quality: int) -> str: ...
