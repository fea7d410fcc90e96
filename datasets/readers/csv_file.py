"""A data set as a CSV file: ``path,person_id[,camera_id][,split]``."""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from datasets.readers.records import GALLERY, NOBODY, SPLITS, TEST, UNDECIDED, ImageRecord, root_of
from datasets.sample import LONGEST_NUMBER
from utils.errors import ReidError
from utils.files import absent_files, written_aside
from utils.images import IMAGE_SUFFIXES, is_image
from utils.text import as_cell, from_cell

_REQUIRED, _OPTIONAL = ("path", "person_id"), ("camera_id", "split")
_FORM = "path,person_id[,camera_id][,split]"


def refuse_absent(file: Path, images: Mapping[int, ImageRecord]) -> None:
    """Check that the images of a CSV file exist.

    Args:
        file: the CSV file, for the message.
        images: by their line in it, see :func:`parse_csv`.

    Raises:
        ReidError: for missing files, with their lines.
    """
    absent = set(absent_files(image.path for image in images.values()))
    slash = "; folders in a path end with /" if any("\\" in path for path in absent) else ""
    lines = (f"line {line}: no file {image.path}" for line, image in images.items() if image.path in absent)
    _refuse(file, list(lines), slash)


def parse_csv(file: Path, *, saved: bool = False) -> dict[int, ImageRecord]:
    """Read and check the lines of a CSV file; the images are not opened.

    The first line names the columns, in any order, between commas, semicolons or tabs. ``path`` is absolute or
    relative to the file's folder. ``person_id`` is any text; an empty one means a distractor, in the ``gallery`` or
    ``test`` split only. ``camera_id`` is a whole number. ``split`` is ``train``, ``query``, ``gallery`` or ``test``
    (which becomes query and gallery at random, or the gallery alone if there are queries).

    Args:
        file: UTF-8, with or without a byte order mark.
        saved: it comes from :func:`write_csv`, so names may have any bytes, and spaces at their ends count.

    Returns:
        The images by their line in the file, counted from 1.

    Raises:
        ReidError: for a wrong header, or lines that break a rule, of which it names three.
    """
    root = root_of(file.parent)
    images: dict[int, ImageRecord] = {}
    faults: list[str] = []
    line_of: dict[str, int] = {}
    try:
        errors = "surrogateescape" if saved else "strict"
        with file.open(encoding="utf-8-sig", errors=errors, newline="") as text:
            header = text.readline()
            text.seek(0)
            reader = csv.reader(text, delimiter=next((sign for sign in ",;\t" if sign in header), ","))
            columns = _columns(file, next(reader, []))
            for cells in reader:
                if not cells:
                    continue
                try:
                    if len(cells) != len(columns):
                        raise ValueError(f"{len(cells)} cells instead of {len(columns)}")
                    image = _image(dict(zip(columns, cells, strict=True)), root, saved=saved)
                    if (first := line_of.setdefault(image.path, reader.line_num)) != reader.line_num:
                        raise ValueError(f"{image.path} is on line {first} already")
                    images[reader.line_num] = image
                except ValueError as error:
                    faults.append(f"line {reader.line_num}: {error}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReidError(f"CSV file {file} must be readable UTF-8 text, but: {error}; save it as UTF-8") from error
    _refuse(file, faults)
    if not images:
        raise ReidError(f"CSV file {file} must list images below its header, but lists none")
    return images


def write_csv(file: Path, images: Iterable[ImageRecord]) -> None:
    """Write images as a CSV file that :func:`parse_csv` reads, whole or not at all.

    Args:
        file: the new file; paths below its folder become relative to it.
        images: all with cameras, or all without.

    Raises:
        OSError: if the folder cannot be written.
    """
    ordered = sorted(images)
    prefix = f"{root_of(file.parent)}/"
    with_camera = ordered[0].camera is not None
    with (
        written_aside(file) as aside,
        aside.open("w", encoding="utf-8", errors="surrogateescape", newline="") as text,
    ):
        writer = csv.writer(text)
        writer.writerow(["path", "person_id", *(["camera_id"] if with_camera else []), "split"])
        for path, person, camera, split in ordered:
            cells = as_cell(path.removeprefix(prefix)), as_cell(person)
            writer.writerow([*cells, *([camera] if with_camera else []), split])


def _columns(file: Path, header: Sequence[str]) -> list[str]:
    columns = [name.strip() for name in header]
    unknown = set(columns) - {*_REQUIRED, *_OPTIONAL}
    if unknown or len(set(columns)) != len(columns) or not set(_REQUIRED) <= set(columns):
        raise ReidError(
            f"CSV file {file} must begin with the header {_FORM}, got {','.join(header)!r}; "
            "rename its columns and remove others"
        )
    return columns


def _image(cells: dict[str, str], root: str, *, saved: bool) -> ImageRecord:
    cell = from_cell(cells["path"])
    if not cell:
        raise ValueError("path is empty")
    if not is_image(cell.rpartition("/")[2]):
        raise ValueError(f"path must end like an image ({', '.join(sorted(IMAGE_SUFFIXES))}), got {cell[:80]!r}")
    path = os.path.normpath(cell if os.path.isabs(cell) else f"{root}/{cell}")  # noqa: PTH117 (Paths are slow)
    path = path.replace(os.sep, "/")
    split = cells["split"].strip() if "split" in cells else UNDECIDED
    if "split" in cells and split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    person = from_cell(cells["person_id"] if saved else cells["person_id"].strip())
    if person == NOBODY and split not in (GALLERY, TEST):
        raise ValueError("person_id is empty (allowed in the gallery only, for a distractor)")
    if "camera_id" not in cells:
        return ImageRecord(path, person, None, split)
    camera = cells["camera_id"].strip()
    if not camera.isdecimal() or len(camera) > LONGEST_NUMBER:
        rule = f"a whole number from 0 on, of {LONGEST_NUMBER} digits at most"
        raise ValueError(f"camera_id must be {rule}, got {camera[:80]!r}")
    return ImageRecord(path, person, int(camera), split)


def _refuse(file: Path, faults: Sequence[str], hint: str = "") -> None:
    if faults:
        raise ReidError(
            f"the lines of CSV file {file} must read {_FORM} with one existing image each, but {len(faults)} "
            f"do not: {'; '.join(faults[:3])}; correct or remove them{hint}"
        )
