"""Low-resolution files of makelr.py: which file belongs to which image, and sizes in pixels."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from datasets.sample import ReidSplits, Sample
from utils.errors import ReidError, one_line
from utils.images import open_image

_MOST_HEADERS = 200  # files that are opened for the usual size


@dataclass(frozen=True)
class LowResolutionFiles:
    """Scale -> the low-resolution file of each image; for other scales the device lowers the resolution.

    Attributes:
        train: in the order of the training split.
        test: of the queries, then of the gallery.
    """

    train: Mapping[int, Sequence[Path]] = field(default_factory=dict)
    test: Mapping[int, Sequence[Path]] = field(default_factory=dict)


def find_low_resolution_files(
    splits: ReidSplits, train_scales: Sequence[int], test_scales: Sequence[int]
) -> LowResolutionFiles:
    """The files below ``{folder}_x{scale}`` for each of the data set's folders; scale 1 needs none.

    Raises:
        ReidError: if a folder or a file is missing, or an image does not lie below the data set's folders.
    """
    return LowResolutionFiles(
        {scale: _files(splits, splits.train, scale) for scale in sorted(set(train_scales)) if scale > 1},
        {scale: _files(splits, splits.test, scale) for scale in sorted(set(test_scales)) if scale > 1},
    )


def low_resolution_sibling(folder: Path, scale: int) -> Path:
    """Where makelr.py writes by default: ``market1501`` and 2 give ``market1501_x2`` beside it.

    Raises:
        ReidError: if the folder is the root, which has no name.
    """
    whole = Path(os.path.abspath(folder))  # noqa: PTH100 (resolve() would go to where a link points)
    if not whole.name:
        raise ReidError(
            f"the data set's folder must have a name, got {folder}; name the folder that holds the images"
        )
    return whole.with_name(f"{whole.name}_x{scale}")


def low_resolution_folder(folder: Path, scale: int) -> Path:
    """The folder that makelr.py made of a data set.

    Raises:
        ReidError: if it does not exist.
    """
    if not (low := low_resolution_sibling(folder, scale)).is_dir():
        command = f'python makelr.py --scale {scale} --data_dir "{folder}"'
        raise ReidError(f"low-resolution folder {low} must exist, but does not; make it: {command}")
    return low


def usual_size(paths: Sequence[Path]) -> tuple[int, int]:
    """Median height and width in pixels of up to 200 files at even distances.

    Raises:
        ReidError: if one cannot be read.
    """
    rows = np.linspace(0, len(paths) - 1, min(len(paths), _MOST_HEADERS)).astype(int)
    sizes = [read_size(paths[row]) for row in rows]
    if faults := [size for size in sizes if isinstance(size, str)]:
        raise ReidError(faults[0])
    height, width = np.median(np.array(sizes), axis=0).round().astype(int).tolist()
    return height, width


def read_size(path: Path) -> tuple[int, int] | str:
    """(height, width) in pixels from the header of an image file, or what is wrong with it."""
    try:
        with open_image(path) as image:
            return image.height, image.width
    except Exception as error:  # decoders raise OSError, struct.error, IndexError, ...
        return f"cannot read image {path}: {one_line(error)}"


def _files(splits: ReidSplits, samples: Sequence[Sample], scale: int) -> list[Path]:
    files: dict[Path, Path] = {}
    for folder in splits.folders:
        if paths := [sample.path for sample in samples if sample.path.is_relative_to(folder)]:
            files |= zip(paths, _pair_files(paths, folder, low_resolution_folder(folder, scale)), strict=True)
    if outside := [sample.path for sample in samples if sample.path not in files]:
        raise ReidError(
            f"DATASETS.LR_SOURCE disk needs images below the data set's folder, where makelr.py finds them, but "
            f"{len(outside)} of {splits.name} lie elsewhere, first {outside[0]}; set DATASETS.LR_SOURCE online"
        )
    return [files[sample.path] for sample in samples]


def _pair_files(paths: Sequence[Path], source: Path, low: Path) -> list[Path]:
    """The file of the same name relative to the folder ``low`` for each image below ``source``."""
    pairs = [low / path.relative_to(source) for path in paths]
    present = {at: set(os.listdir(at)) for at in {pair.parent for pair in pairs} if at.is_dir()}  # noqa: PTH208
    if missing := [pair for pair in pairs if pair.name not in present.get(pair.parent, ())]:
        raise ReidError(
            f"each image of {source} must have its file in {low}, but {len(missing)} of {len(pairs)} have "
            f"none, first {missing[0]}; run makelr.py for it again, which makes what is missing"
        )
    return pairs
