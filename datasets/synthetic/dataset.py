"""Draw pedestrians into a folder in Market-1501 layout; whole or absent, the same for the same arguments."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

from datasets.synthetic.image import encode_image
from datasets.synthetic.plan import GALLERY, QUERY, TRAIN, SyntheticSpec, plan_images
from utils.errors import ReidError
from utils.files import file_named, scratch_folder, write_text

SPEC_FILE = "synthetic.json"
# Raised when the same arguments begin to give other pictures: an older folder is then refused.
_DRAWING_VERSION = 1
_REMEDY = "; remove it or give another folder"


def draw_dataset(out: Path, spec: SyntheticSpec, *, progress: bool = False) -> Path:
    """Draw the data set into ``out``, or return at once if it already holds exactly this data set.

    The folder is whole or absent: the images are drawn beside ``out``, and their folder is renamed at the end.

    Args:
        out: the folder; it must be absent, empty, or hold exactly this data set.
        spec: what to draw.
        progress: show a progress bar on stderr.

    Returns:
        ``out``, which then holds ``bounding_box_train``, ``query``, ``bounding_box_test`` and
        ``synthetic.json`` (the specification).

    Raises:
        ReidError: if ``out`` is a file, or a folder with anything else in it.
    """
    if _is_drawn(out, spec):
        return out
    target = out.resolve()
    with scratch_folder(target.parent, f".{target.name}_") as scratch:
        folder = scratch / target.name
        try:
            _draw_all(folder, spec, progress)
            if target.is_dir():
                target.rmdir()
            folder.rename(target)
        except OSError:
            # Another process may have finished the same data set in the meantime.
            if not _is_drawn(out, spec):
                raise
    return out


def _draw_all(folder: Path, spec: SyntheticSpec, progress: bool) -> None:
    for name in (TRAIN, QUERY, GALLERY):
        (folder / name).mkdir(parents=True)
    size = (spec.height, spec.width)
    for image in tqdm(
        list(plan_images(spec)), desc="synthetic data set", unit="image", disable=None if progress else True
    ):
        person, camera, number = image.person, image.camera, image.number
        encoded = encode_image(spec.seed, person, camera, number, size, misplaced=image.misplaced)
        with file_named(folder / image.path):
            (folder / image.path).write_bytes(encoded)
    write_text(folder / SPEC_FILE, json.dumps(_record(spec), indent=2) + "\n")


def _record(spec: SyntheticSpec) -> dict[str, Any]:
    return {"kind": "synthetic", "drawing_version": _DRAWING_VERSION, **asdict(spec)}


def _is_drawn(out: Path, spec: SyntheticSpec) -> bool:
    """True for exactly this data set, False for an absent or empty folder.

    Raises:
        ReidError: for anything else.
    """
    if not out.exists():
        return False
    if not out.is_dir():
        raise ReidError(f"out must be a folder, got the file {out}{_REMEDY}")
    if not any(out.iterdir()):
        return False
    present, record = _read_record(out / SPEC_FILE), _record(spec)
    names = [name for name in {**record, **present} if record.get(name) != present.get(name)]
    if names:
        differences = ", ".join(f"{name} {present.get(name)!r}, not {record.get(name)!r}" for name in names)
        raise ReidError(f"out must hold the same synthetic data set, got {out} with {differences}{_REMEDY}")
    images = {path.relative_to(out).as_posix() for path in out.glob("*/*.jpg")}
    odd = images ^ {image.path for image in plan_images(spec)}
    if odd:
        raise ReidError(
            f"out must hold the whole synthetic data set and no other image, got {out} with {len(odd)} "
            f"missing or foreign, such as {min(odd)}{_REMEDY}"
        )
    return True


def _read_record(path: Path) -> dict[str, Any]:
    """The specification in a data set's folder.

    Raises:
        ReidError: if it is missing or cannot be read.
    """
    rule = f"out must be absent, empty or a synthetic data set, got the non-empty folder {path.parent}"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReidError(f"{rule} without a readable {path.name}{_REMEDY}") from error
    if not isinstance(record, dict):
        raise ReidError(f"{rule} whose {path.name} is no specification{_REMEDY}")
    return record
