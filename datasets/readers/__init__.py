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
from datasets.readers.random_split import SplitRule, resolve_split
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


def read_dataset(
    name: str, root: Path, *, with_train: bool = True, seed: int = 0, trained_here: bool = True
) -> ReidSplits:
    """Read a data set.

    Args:
        name: a key of :data:`READERS`; or the path of a folder in Market-1501 layout, of a folder of
            identities (:func:`datasets.readers.identity_folders.identity_folder_images`), or of a CSV file
            (:func:`datasets.readers.csv_file.parse_csv`); or its name within ``root``. A user's own data without
            query and gallery get a random split (:func:`datasets.readers.random_split.draw_split`), saved as
            ``split_seed{seed}.csv`` in the folder, or as ``{file}_split_seed{seed}.csv`` beside the CSV file.
        root: the folder that holds the named data sets.
        with_train: False leaves the training split empty: a test needs none.
        seed: of a random split.
        trained_here: False = a network of another project is tested, on all identities of data without queries.

    Raises:
        ReidError: if the name is none of these, or the files break a rule of their layout.
    """
    if not name.strip():
        raise ReidError(
            f"DATASETS.NAMES must name a data set, a folder or a .csv file, got {name!r}; see docs/datasets.md"
        )
    with _collection_paused():
        return _read(name, root, SplitRule(seed, with_train, trained_here))


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


def _read(name: str, root: Path, rule: SplitRule) -> ReidSplits:
    if name in READERS:
        return READERS[name](root, with_train=rule.with_train)
    path = own_data(name, root)
    if path is not None and path.is_dir():
        return _read_folder(path, rule)
    if path is not None and path.suffix.lower() in (".csv", ".tsv") and path.is_file():
        return _read_csv(path, rule)
    raise ReidError(
        f"DATASETS.NAMES must be one of {', '.join(READERS)}, an existing folder, or an existing .csv file, "
        f"here or in {root}, got {name!r}{did_you_mean(name, READERS)}"
    )


def own_data(name: str, root: Path) -> Path | None:
    """The folder or file of that name, here or in the folder of the data sets; None where there is none."""
    return next((path for path in (Path(name), root / name) if path.exists()), None)


def _read_folder(folder: Path, rule: SplitRule) -> ReidSplits:
    name = Path(root_of(folder)).name  # the name of a link, not of its target
    if (folder / MarketLayout.train).is_dir() or (folder / MarketLayout.gallery).is_dir():
        return read_market_layout(folder, name, layout_of(folder), with_train=rule.with_train)
    if (folder / "list_gallery.txt").is_file():
        return read_msmt17(folder, name, with_train=rule.with_train)
    file = folder / f"split_seed{rule.seed}.csv"
    images = resolve_split(identity_folder_images(folder), file, rule)
    return number_identities(name, images, folder, with_train=rule.with_train)


def _read_csv(file: Path, rule: SplitRule) -> ReidSplits:
    lines = parse_csv(file)
    if rule.with_train:
        refuse_absent(file, lines)  # before a split is drawn and saved
    split_file = file.with_name(f"{file.stem}_split_seed{rule.seed}.csv")
    images = resolve_split(list(lines.values()), split_file, rule)
    if not rule.with_train:
        test = {image.path for image in images if image.split != TRAIN}
        refuse_absent(file, {line: image for line, image in lines.items() if image.path in test})
    return number_identities(file.stem, images, file.parent, with_train=rule.with_train)
