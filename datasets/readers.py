"""The data sets by name."""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from datasets.convert.crops import MARK
from datasets.csv_dataset import parse_csv, refuse_absent
from datasets.drawn_split import with_split
from datasets.labelled_images import TRAIN, numbered_splits, root_of
from datasets.market_layout import MarketLayout, read_market_layout
from datasets.msmt17 import read_msmt17
from datasets.own_folders import identity_folder_images
from datasets.sample import ReidSplits
from utils.errors import ReidError, did_you_mean


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
    if not name.strip():
        raise ReidError(
            f"DATASETS.NAMES must name a data set, a folder or a .csv file, got {name!r}; see docs/datasets.md"
        )
    with _collection_paused():
        return _read(name, root, with_train=with_train, seed=seed)


@contextmanager
def _collection_paused() -> Iterator[None]:
    """The collector would look through the growing lists again and again, a third of the time, for no garbage."""
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
    name, layout = Path(root_of(folder)).name, MarketLayout()  # a link gives its own name
    if (folder / layout.train).is_dir() or (folder / layout.gallery).is_dir():
        return read_market_layout(folder, name, _NO_CAMERAS if _is_mot17(folder) else layout, with_train=with_train)
    if (folder / "list_gallery.txt").is_file():
        return read_msmt17(folder, name, with_train=with_train)
    saved = folder / f"split_seed{seed}.csv"
    images = with_split(identity_folder_images(folder), saved, seed, with_train=with_train)
    return numbered_splits(name, images, folder, with_train=with_train)


def _is_mot17(folder: Path) -> bool:
    """Whether the mark of ``datasets.convert`` says so."""
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # ours or not, the images are what counts
        return False
    return isinstance(mark, dict) and mark.get("made_by") == "datasets.convert mot17"


def _read_csv(file: Path, *, with_train: bool, seed: int) -> ReidSplits:
    lines = parse_csv(file)
    if with_train:
        refuse_absent(file, lines)  # before a split of them is drawn and saved
    saved = file.with_name(f"{file.stem}_split_seed{seed}.csv")
    images = with_split(list(lines.values()), saved, seed, with_train=with_train)
    if not with_train:
        tested = {image.path for image in images if image.split != TRAIN}
        refuse_absent(file, {line: image for line, image in lines.items() if image.path in tested})
    return numbered_splits(file.stem, images, file.parent, with_train=with_train)
