"""The data sets by name."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

from datasets.csv_dataset import csv_images
from datasets.drawn_split import with_split
from datasets.labelled_images import numbered_splits
from datasets.market_layout import MarketLayout, read_market_layout
from datasets.msmt17 import read_msmt17
from datasets.own_folders import identity_folder_images
from datasets.sample import ReidSplits
from utils.errors import ReidError


class Reader(Protocol):
    """Reads the splits of one data set below ``root``."""

    def __call__(self, root: Path, *, with_train: bool) -> ReidSplits:
        """Read; without the training split where ``with_train`` is False."""


@dataclass(frozen=True)
class MarketReader:
    """Reader of a named data set in Market layout.

    Attributes:
        name: of the data set.
        folders: names of its folder below the root; the first that exists is read.
        layout: of its folders and file names; None = that of Market-1501.
    """

    name: str
    folders: tuple[str, ...]
    layout: MarketLayout | None = None

    def __call__(self, root: Path, *, with_train: bool) -> ReidSplits:
        """Read; see :func:`datasets.market_layout.read_market_layout`."""
        candidates = [root / folder for folder in self.folders]
        folder = next((path for path in candidates if path.is_dir()), candidates[0])
        return read_market_layout(folder, self.name, self.layout, with_train=with_train)


def _msmt17(root: Path, *, with_train: bool) -> ReidSplits:
    return read_msmt17(root / "MSMT17", with_train=with_train)


# MOT17 is filmed by one camera a sequence: what its file names say of cameras does not count.
_NO_CAMERAS = MarketLayout(pattern=r"(?P<id>-?\d+)_")

READERS: dict[str, Reader] = {
    "market1501": MarketReader("market1501", ("market1501",)),
    "dukemtmcreid": MarketReader("dukemtmcreid", ("DukeMTMC-reID",)),
    "msmt17": _msmt17,
    "cuhk03": MarketReader("cuhk03", ("cuhk03",)),
    "PRW": MarketReader("PRW", ("PRW", "PRW_reid")),
    "MOT17": MarketReader("MOT17", ("MOT17_reid",), _NO_CAMERAS),
}


def read_dataset(name: str, root: Path, *, with_train: bool = True, seed: int = 0) -> ReidSplits:
    """Read a data set.

    Args:
        name: a key of :data:`READERS`; or the path of a folder in Market-1501 layout, of a folder of
            identities (:func:`datasets.own_folders.identity_folder_images`), or of a CSV file
            (:func:`datasets.csv_dataset.parse_csv`). One's own data without query and gallery get a split
            (:func:`datasets.drawn_split.draw_split`), kept as ``split_seed{seed}.csv`` in the folder, or as
            ``{file}_split_seed{seed}.csv`` beside the CSV file.
        root: the folder that holds the named data sets.
        with_train: False leaves the training split empty: a test needs none.
        seed: of a drawn split.

    Raises:
        ReidError: if the name is none of these, or the files are not as they must be.
    """
    if name in READERS:
        return READERS[name](root, with_train=with_train)
    path = Path(name)
    if path.is_dir():
        return _read_folder(path, with_train=with_train, seed=seed)
    if path.suffix.lower() == ".csv" and path.is_file():
        saved = path.with_name(f"{path.stem}_split_seed{seed}.csv")
        images = with_split(csv_images(path), saved, seed)
        return numbered_splits(path.stem, images, path.parent, with_train=with_train)
    known = ", ".join(READERS)
    by_case = {key.lower(): key for key in READERS}
    near = get_close_matches(name.lower(), by_case, n=1)
    hint = f"; did you mean {by_case[near[0]]!r}?" if near else ""
    raise ReidError(
        f"DATASETS.NAMES must be one of {known}, an existing folder, or an existing .csv file, got {name!r}{hint}"
    )


def _read_folder(folder: Path, *, with_train: bool, seed: int) -> ReidSplits:
    name, layout = folder.resolve().name, MarketLayout()
    if (folder / layout.train).is_dir() or (folder / layout.gallery).is_dir():
        return read_market_layout(folder, name, with_train=with_train)
    if (folder / "list_gallery.txt").is_file():
        return read_msmt17(folder, name, with_train=with_train)
    images = with_split(identity_folder_images(folder), folder / f"split_seed{seed}.csv", seed)
    return numbered_splits(name, images, folder, with_train=with_train)
