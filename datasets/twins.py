"""The low-resolution files of a data set's images, made by makelr.py, as training and test read them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from datasets.low_resolution import low_resolution_folder, paired_paths, read_size
from datasets.sample import ReidSplits, Sample
from utils.errors import ReidError

_SAMPLED = 200  # files whose headers tell the usual size


@dataclass(frozen=True)
class Twins:
    """Scale -> the low-resolution file of each image; a scale that is absent is made by the device.

    Attributes:
        train: in the order of the training split.
        test: of the queries, then of the gallery.
    """

    train: Mapping[int, Sequence[Path]] = field(default_factory=dict)
    test: Mapping[int, Sequence[Path]] = field(default_factory=dict)


def find_twins(splits: ReidSplits, train_scales: Sequence[int], test_scales: Sequence[int]) -> Twins:
    """The files below ``{folder}_x{scale}`` for each of the data set's folders; scale 1 needs none.

    Raises:
        ReidError: if a folder or a file is missing, or the images do not lie below the data set's folders.
    """
    test = (*splits.query, *splits.gallery)
    return Twins(
        {scale: _files(splits, splits.train, scale) for scale in sorted(set(train_scales)) if scale > 1},
        {scale: _files(splits, test, scale) for scale in sorted(set(test_scales)) if scale > 1},
    )


def usual_size(paths: Sequence[Path]) -> tuple[int, int]:
    """Median height and width in pixels of up to 200 files, evenly chosen.

    Raises:
        ReidError: if one cannot be read.
    """
    chosen = [paths[row] for row in np.linspace(0, len(paths) - 1, min(len(paths), _SAMPLED)).astype(int)]
    sizes = [read_size(path) for path in chosen]
    if faults := [size for size in sizes if isinstance(size, str)]:
        raise ReidError(faults[0])
    height, width = np.median(np.array(sizes), axis=0).round().astype(int).tolist()
    return height, width


def _files(splits: ReidSplits, samples: Sequence[Sample], scale: int) -> list[Path]:
    if not splits.folders:
        raise ReidError(
            f"DATASETS.LR_SOURCE disk needs images that lie below one folder, which makelr.py can copy; those of "
            f"{splits.name} do not; set DATASETS.LR_SOURCE online"
        )
    files = dict[Path, Path]()
    for folder in splits.folders:
        of_folder = [sample.path for sample in samples if sample.path.is_relative_to(folder)]
        if of_folder:
            pairs = paired_paths(of_folder, folder, low_resolution_folder(folder, scale))
            files |= zip(of_folder, pairs, strict=True)
    if outside := [sample.path for sample in samples if sample.path not in files]:
        raise ReidError(
            f"DATASETS.LR_SOURCE disk needs images below the folders of {splits.name}, got {outside[0]}; "
            "set DATASETS.LR_SOURCE online"
        )
    return [files[sample.path] for sample in samples]
