"""The low-resolution twin of a data set on disk: made by makelr.py, read by training."""

import json
import os
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from datasets.market_layout import IMAGE_SUFFIXES
from utils.errors import ReidError, one_line
from utils.files import PART, written_aside
from utils.resolution import low_resolution_size

MARK = "makelr.json"  # in each folder that we made: how it was made
_KEPT = {"exif", "icc_profile"}  # orientation and colours hold for the small image too
_FORMATS: dict[str, dict[str, Any]] = {
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


class Plan(NamedTuple):
    """What is to be done: unfinished images, number of finished files, non-images, mark of each folder."""

    jobs: tuple[Job, ...]
    finished: int
    strangers: tuple[Path, ...]
    marks: Mapping[Path, str]


def low_resolution_sibling(folder: Path, scale: int) -> Path:
    """Where the twin of a data set lies: ``market1501`` and 2 give ``market1501_x2`` beside it.

    Raises:
        ReidError: if the folder is the root, which has no name and nothing beside it.
    """
    whole = Path(os.path.abspath(folder))  # noqa: PTH100 (resolve() would go to where a link points)
    if not whole.name:
        raise ReidError(
            f"the data set's folder must have a name, got {folder}; name the folder that holds the images"
        )
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
        raise ReidError(f"images with a twin must lie in the data set's folder, but {error}") from error
    present = {at: set(os.listdir(at)) for at in {pair.parent for pair in pairs} if at.is_dir()}  # noqa: PTH208
    if missing := [pair for pair in pairs if pair.name not in present.get(pair.parent, ())]:
        raise ReidError(
            f"each image of {source} must have its twin in {low}, but {len(missing)} of {len(pairs)} have "
            f"none, first {missing[0]}; run makelr.py for it again, which makes what is missing"
        )
    return pairs


def make_plan(source: Path, targets: Sequence[Target], quality: int) -> Plan:
    """Find what is to be done; writes nothing, but removes what a killed run left half-written.

    Args:
        source: the data set's folder; its sub-folders are taken too.
        targets: the folders to make.
        quality: of JPEG files, 1 to 100.

    Raises:
        ReidError: if ``source`` has no image, or a target lies in it or was not made by the same command.
    """
    images, strangers = _scan(source)
    marks = {folder: _checked_mark(source, folder, scale, quality) for folder, scale in targets}
    files = {name: [Target(folder / name, scale) for folder, scale in targets] for name in images}
    todo = {name: tuple(file for file in files[name] if not file.path.exists()) for name in images}
    jobs = tuple(Job(source / name, missing) for name, missing in todo.items() if missing)
    finished = len(images) * len(targets) - sum(len(job.targets) for job in jobs)
    return Plan(jobs, finished, tuple(strangers), marks)


def _scan(source: Path) -> tuple[list[Path], list[Path]]:
    if not source.is_dir():
        raise ReidError(f"--data_dir must be the folder of a data set, but {source} is no folder")
    images, strangers = list[Path](), list[Path]()
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


def _checked_mark(source: Path, folder: Path, scale: int, quality: int) -> str:
    if folder.resolve().is_relative_to(source.resolve()):
        raise ReidError(f"--out_dir must lie outside of the data set {source}, got {folder}")
    origin = Path(os.path.relpath(source.resolve(), folder.resolve())).as_posix()  # holds if both move
    mark = json.dumps({"made_by": "makelr.py", "source": origin, "scale": scale, "quality": quality})
    found = (folder / MARK).read_text(encoding="utf-8", errors="replace") if (folder / MARK).is_file() else ""
    if found != mark and (found or folder.is_file() or (folder.is_dir() and any(folder.iterdir()))):
        raise ReidError(
            f"{folder} must be new, empty, or begun by the same command with the mark {mark}, "
            f"but it holds {' '.join(found.split())[:200] or 'something else'}; remove it or choose another --out_dir"
        )
    for left in folder.rglob(f".*{PART}"):
        left.unlink(missing_ok=True)
    return mark


def read_size(path: Path) -> tuple[int, int] | str:
    """(height, width) in pixels from the header of an image file, or what is wrong with it."""
    try:
        with Image.open(path, formats=list(_FORMATS)) as image:
            return image.height, image.width
    except Exception as error:  # decoders raise what they stumble over: OSError, struct.error, IndexError
        return _fault(path, error)


def _fault(path: Path, error: Exception) -> str:
    return f"cannot read image {path}: {one_line(error)}"


def downsample(image: Image.Image, scale: int) -> Image.Image:
    """Bicubic with antialiasing, the same as torch's but for rounding; palettes become colours first."""
    if image.mode in ("1", "P", "PA"):  # Pillow would pick the nearest pixels
        image = image.convert("L" if image.mode == "1" else "RGBA" if image.has_transparency_data else "RGB")
    height, width = low_resolution_size(image.height, image.width, scale)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def make_images(job: Job, quality: int) -> str:
    """Write the files of one image; return what is wrong with it, or an empty text.

    Raises:
        ReidError: if a file cannot be written.
    """
    try:
        with Image.open(job.source, formats=list(_FORMATS)) as image:
            encoded = [_encode(downsample(image, scale), image.format, quality) for _, scale in job.targets]
    except Exception as error:  # as in read_size
        return _fault(job.source, error)
    for target, content in zip(job.targets, encoded, strict=True):
        _write(target.path, content)
    return ""


def _encode(image: Image.Image, file_format: str | None, quality: int) -> bytes:
    options: dict[str, Any] = {key: image.info[key] for key in _KEPT & image.info.keys()}
    if file_format in ("JPEG", "MPO"):  # MPO: a camera's JPEG with a preview
        file_format, options["quality"] = "JPEG", quality
    buffer = BytesIO()
    image.save(buffer, file_format, **options, **_FORMATS[str(file_format)])
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    try:
        with written_aside(path) as aside:
            aside.write_bytes(content)
    except OSError as error:
        raise ReidError(f"{path} must be writable, but {error}; repaired, the command goes on") from error
