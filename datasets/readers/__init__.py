"""Read a data set by its name, or a user's own by the path of a folder or a CSV file."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from datasets.readers.csv_file import parse_csv, refuse_absent
from datasets.readers.identity_folders import identity_folder_images
from datasets.readers.market import NO_CAMERAS, MarketLayout, MarketReader, layout_of, read_market_layout
from datasets.readers.msmt17 import read_msmt17
from datasets.readers.random_split import resolve_split
from datasets.readers.records import TRAIN, number_identities, root_of
from datasets.sample import ReidSplits
from utils.errors import ReidError, did_you_mean


class Reader(Protocol):
    """Reads the splits of one data set below ``root``."""

    def __call__(self, root: Path, *, with_train: bool) -> ReidSplits:
        """Read; without the training split where ``with_train`` is False."""


def _msmt17(root: Path, *, with_train: bool) -> ReidSplits:
    return read_msmt17(root / "MSMT17", with_train=with_train)


READERS: dict[str, Reader] = {
    "market1501": MarketReader("market1501", ("market1501",)),
    "dukemtmcreid": MarketReader("dukemtmcreid", ("DukeMTMC-reID",)),
    "msmt17": _msmt17,
    "cuhk03": MarketReader("cuhk03", ("cuhk03",)),
    "PRW": MarketReader("PRW", ("PRW", "PRW_reid")),
    "MOT17": MarketReader("MOT17", ("MOT17_reid",), NO_CAMERAS),
}


def read_dataset(name: str, root: Path, *, with_train: bool = True, seed: int = 0) -> ReidSplits:
    """Read a data set.

    Args:
        name: a key of :data:`READERS`; or the path of a folder in Market-1501 layout, of a folder of
            identities (:func:`datasets.readers.identity_folders.identity_folder_images`), or of a CSV file
            (:func:`datasets.readers.csv_file.parse_csv`). A user's own data without query and gallery get a
            random split (:func:`datasets.readers.random_split.draw_split`), saved as ``split_seed{seed}.csv`` in
            the folder, or as ``{file}_split_seed{seed}.csv`` beside the CSV file.
        root: the folder that holds the named data sets.
        with_train: False leaves the training split empty: a test needs none.
        seed: of a random split.

    Raises:
        ReidError: if the name is none of these, or the files break a rule of their layout.
    """
    if not name.strip():
        raise ReidError(
            f"DATASETS.NAMES must name a data set, a folder or a .csv file, got {name!r}; see docs/datasets.md"
        )
    with _collection_paused():
        return _read(name, root, with_train=with_train, seed=seed)


@contextmanager
def _collection_paused() -> Iterator[None]:
    """Pause the garbage collector, which takes a third of the time to scan growing lists without garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read(name: str, root: Path, *, with_train: bool, seed: int) -> ReidSplits:
    if name in READERS:
        return READERS[name](root, with_train=with_train)
    path = Path(name)
    if path.is_dir():
        return _read_folder(path, with_train=with_train, seed=seed)
    if path.suffix.lower() == ".csv" and path.is_file():
        return _read_csv(path, with_train=with_train, seed=seed)
    raise ReidError(
        f"DATASETS.NAMES must be one of {', '.join(READERS)}, an existing folder, or an existing .csv file, "
        f"got {name!r}{did_you_mean(name, READERS)}"
    )


def _read_folder(folder: Path, *, with_train: bool, seed: int) -> ReidSplits:
    name = Path(root_of(folder)).name  # the name of a link, not of its target
    if (folder / MarketLayout.train).is_dir() or (folder / MarketLayout.gallery).is_dir():
        return read_market_layout(folder, name, layout_of(folder), with_train=with_train)
    if (folder / "list_gallery.txt").is_file():
        return read_msmt17(folder, name, with_train=with_train)
    file = folder / f"split_seed{seed}.csv"
    images = resolve_split(identity_folder_images(folder), file, seed, with_train=with_train)
    return number_identities(name, images, folder, with_train=with_train)


def _read_csv(file: Path, *, with_train: bool, seed: int) -> ReidSplits:
    lines = parse_csv(file)
    if with_train:
        refuse_absent(file, lines)  # before a split is drawn and saved
    split_file = file.with_name(f"{file.stem}_split_seed{seed}.csv")
    images = resolve_split(list(lines.values()), split_file, seed, with_train=with_train)
    if not with_train:
        test = {image.path for image in images if image.split != TRAIN}
        refuse_absent(file, {line: image for line, image in lines.items() if image.path in test})
    return number_identities(file.stem, images, file.parent, with_train=with_train)
