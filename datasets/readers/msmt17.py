"""Reader for MSMT17 (Wei et al., CVPR 2018) as released: four lists and two folders of images."""

import os
from collections.abc import Iterable
from pathlib import Path

from datasets.readers.market import check_folder
from datasets.sample import LONGEST_NUMBER, NoTrainingImagesError, ReidSplits, Sample
from utils.errors import ReidError
from utils.files import absent_files

_TRAIN_FOLDERS = ("train", "mask_train_v2")  # the second: the release with blurred faces
_TEST_FOLDERS = ("test", "mask_test_v2")


def read_msmt17(folder: Path, name: str = "msmt17", *, with_train: bool = True) -> ReidSplits:
    """Read the lists; train and val together are the training split.

    The lists number the identities of train and of test separately, from 0, which elsewhere means a distractor. Test
    identities become 1, 2, ...; training identities follow after them.

    Args:
        folder: holds ``list_{train,val,query,gallery}.txt``, ``train`` and ``test``.
        name: of the data set.
        with_train: False leaves the training split empty, its lists and folder unread.

    Raises:
        ReidError: if a list is missing or has a line that cannot be read, or images are missing.
    """
    check_folder(folder, name)
    test = _images(folder, _TEST_FOLDERS)
    query = _read_list(folder / "list_query.txt", test, 1)
    gallery = _read_list(folder / "list_gallery.txt", test, 1)
    train: list[Sample] = []
    if with_train:
        first = 1 + max(sample.person_id for sample in (*query, *gallery))
        images = _images(folder, _TRAIN_FOLDERS)
        for part in ("train", "val"):
            train += _read_list(folder / f"list_{part}.txt", images, first)
    parts = (train, query, gallery)
    if absent := absent_files(str(sample.path) for part in parts for sample in part):
        raise ReidError(
            f"images in the lists of {folder} must exist, but {len(absent)} do not: {', '.join(absent[:3])}; "
            "unpack the release again"
        )
    return ReidSplits(name, _by_file(train), _by_file(query), _by_file(gallery), (folder,))


def _images(folder: Path, names: tuple[str, ...]) -> Path:
    return next((folder / name for name in names if (folder / name).is_dir()), folder / names[0])


def _read_list(file: Path, images: Path, first: int) -> list[Sample]:
    """Samples of lines like ``0000/0000_000_01_0303morning_0008_0.jpg 0``; identity 0 becomes ``first``."""
    if not file.is_file():
        kind = NoTrainingImagesError if file.name in ("list_train.txt", "list_val.txt") else ReidError
        raise kind(f"list {file} must exist, but does not; MSMT17 needs the four lists of its release")
    samples = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            path, label = line.rsplit(maxsplit=1)
            camera = os.path.basename(path).split("_")[2]  # noqa: PTH119 (a Path per line is slow)
            if max(len(label), len(camera)) > LONGEST_NUMBER:
                raise ValueError("it exceeds 64 bits")
            samples.append(Sample(images / path, first + int(label), int(camera)))
        except (ValueError, IndexError) as error:
            raise ReidError(
                f"{file} line {number} must read like 0000/0000_000_01_0303morning_0008_0.jpg 0, got {line!r}"
            ) from error
    if not samples:
        raise ReidError(f"list {file} must name images, but is empty")
    return samples


def _by_file(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=lambda sample: str(sample.path)))
