"""The data sets by name."""

from pathlib import Path
from typing import Protocol

from datasets.market_layout import read_market_layout
from datasets.sample import ReidSplits
from utils.errors import ReidError


class Reader(Protocol):
    """Reads the splits of one data set below ``root``."""

    def __call__(self, root: Path, *, with_train: bool) -> ReidSplits:
        """Read; without the training split where ``with_train`` is False."""


def _market1501(root: Path, *, with_train: bool) -> ReidSplits:
    return read_market_layout(root / "market1501", "market1501", with_train=with_train)


READERS: dict[str, Reader] = {"market1501": _market1501}


def read_dataset(name: str, root: Path, *, with_train: bool = True) -> ReidSplits:
    """Read a data set.

    Args:
        name: a key of :data:`READERS`, or the path of a folder in Market-1501 layout.
        root: the folder that holds the named data sets.
        with_train: False leaves the training split empty and unread: a test needs none.

    Raises:
        ReidError: if the name is neither, or the files are not as they must be.
    """
    if name in READERS:
        return READERS[name](root, with_train=with_train)
    folder = Path(name)
    if folder.is_dir():
        return read_market_layout(folder, folder.resolve().name, with_train=with_train)
    known = ", ".join(READERS)
    raise ReidError(
        f"DATASETS.NAMES must be one of {known}, or an existing folder in Market-1501 layout, got {name!r}"
    )
