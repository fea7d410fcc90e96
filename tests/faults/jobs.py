"""The commands that trials disturb, and what must hold for the files that they leave."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import yaml
from PIL import Image

from engine.callbacks.epoch_log import read_metrics
from inference.gallery.store import open_gallery
from tests.engine.support import checkpoint_at, resume
from tests.support import run_arguments

EPOCHS = 3
_IMAGES = {".jpg", ".png"}


class World(NamedTuple):
    """What the commands read; nobody writes into it.

    Attributes:
        market: a data set.
        release: of MOT17.
        checkpoint: of a network that was trained on the data set.
        gallery: its gallery, embedded by that network.
    """

    market: Path
    release: Path
    checkpoint: Path
    gallery: Path


class Job(NamedTuple):
    """A command.

    Attributes:
        words: the command that writes below a folder.
        result: what the files say in the end, the same in every run.
        again: the command that goes on with a run that was stopped; None: there is nothing left to do.
        replaces: whether a second command moves the results of the first one to ``earlier_1``.
        prepare: makes what the folder must hold before the command.
    """

    words: Callable[[World, Path], list[str]]
    result: Callable[[Path], object]
    again: Callable[[World, Path], list[str] | None] | None = None
    replaces: bool = False
    prepare: Callable[[World, Path], object] = lambda _, folder: folder.mkdir(parents=True, exist_ok=True)

    def repeat(self, world: World, folder: Path) -> list[str] | None:
        """The command with which a user goes on."""
        return (self.again or self.words)(world, folder)


def _train(world: World, folder: Path) -> list[str]:
    options = ("DATALOADER.NUM_WORKERS", "1", "SOLVER.MAX_EPOCHS", str(EPOCHS))
    return ["train.py", *run_arguments(world.market, folder), *options]


def runs_below(folder: Path) -> list[Path]:
    """The folders of the runs, the last one at the end."""
    return sorted(folder.glob("logs/*/*/*/exp*"))


def resumable(folder: Path) -> list[Path]:
    """The checkpoints of the last run in the order of their position."""
    paths = [path for run in runs_below(folder)[-1:] for path in run.glob("*.pth")]
    return sorted(paths, key=lambda path: (checkpoint_at(path).position, path.name != "best.pth"))


def _resume(world: World, folder: Path) -> list[str] | None:
    if not (checkpoints := resumable(folder)):
        return _train(world, folder)
    if checkpoint_at(checkpoints[-1]).position == (EPOCHS, 0):
        return None
    return ["train.py", *resume(checkpoints[-1])]


def _weights(folder: Path) -> object:
    tensors = checkpoint_at(resumable(folder)[-1]).state
    return {name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in tensors.items()}


def _model(world: World, folder: Path) -> list[str]:
    return ["MODEL.PRETRAIN_PATH", str(world.checkpoint), "TRAINER.ACCELERATOR", "cpu", "OUTPUT_DIR", str(folder)]


def _test(world: World, folder: Path) -> list[str]:
    options = ("DATASETS.NAMES", str(world.market), "TEST.VISUALIZE", "yes", "DATALOADER.NUM_WORKERS", "1")
    return ["test.py", *_model(world, folder), *options]


def _figures(folder: Path) -> object:
    return json.loads((folder / "report.json").read_text())["results"], (folder / "queries.csv").read_text()


def _embed(world: World, folder: Path) -> list[str]:
    # Batches of a chunk each, so that one that is computed later has the same sums to the last bit.
    images = ("DATASETS.ROOT_DIR", str(world.market / "bounding_box_test"), "TEST.IMS_PER_BATCH", "5")
    plugin = ("--plugin", str(Path(__file__).with_name("short_chunks.py")))
    return ["inference/create_embeddings.py", *plugin, *_model(world, folder), *images]


def _search(world: World, folder: Path) -> list[str]:
    options = ("--gallery_data", str(folder), "--index", "hnsw", "--topk", "5", "--visualize", "3")
    images = ("DATASETS.ROOT_DIR", str(world.market / "query"))
    return ["inference/get_similar.py", *options, *_model(world, folder), *images]


def _copy_gallery(world: World, folder: Path) -> None:
    shutil.copytree(world.gallery, folder, dirs_exist_ok=True)


def _infer(world: World, folder: Path) -> list[str]:
    folders = ("--query_dir", str(world.market / "query"))
    images = ("DATASETS.ROOT_DIR", str(world.market / "bounding_box_test"))
    return ["inference/infer.py", *folders, *_model(world, folder), *images]


def _lower(world: World, folder: Path) -> list[str]:
    options = ("--scale", "2", "4", "--workers", "2")
    return ["makelr.py", *options, "--data_dir", str(world.market), "--out_dir", str(folder / "low")]


def _convert(world: World, folder: Path) -> list[str]:
    options = ("--every", "1", "--min-height", "60", "--workers", "2")
    return ["-m", "datasets.convert", "mot17", str(world.release), str(folder / "reid"), *options]


def _cut_tracks(world: World, folder: Path) -> list[str]:
    options = ("--every", "1", "--min-height", "60", "--workers", "2")
    footage = str(world.release / "train")
    return ["-m", "datasets.convert", "tracks", footage, footage, str(folder / "tracks"), *options]


def _draw(_: World, folder: Path) -> list[str]:
    size = ("--train-ids", "6", "--test-ids", "6", "--cameras", "2", "--height", "64", "--width", "32")
    return ["-m", "datasets.synthetic", str(folder / "people"), *size]


def _images(folder: Path) -> object:
    files = (path for path in folder.rglob("*") if path.suffix in _IMAGES and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): digest(path) for path in files}


def _vectors(folder: Path) -> object:
    embeddings = open_gallery(folder).embeddings
    return embeddings.vectors.tobytes(), embeddings.paths.tolist()


def _export(world: World, folder: Path) -> list[str]:
    return ["inference/export.py", *_model(world, folder)]


def _card(folder: Path) -> object:
    card = json.loads((folder / "model.json").read_text())
    return {**card, "files": list(card["files"])}, (folder / "model.onnx").is_file()


JOBS: dict[str, Job] = {
    "train": Job(_train, _weights, _resume),
    "test": Job(_test, _figures, replaces=True),
    "embed": Job(_embed, _vectors, replaces=True),
    "search": Job(_search, lambda folder: (folder / "results.csv").read_text(), replaces=True, prepare=_copy_gallery),
    "infer": Job(_infer, lambda folder: (folder / "result.csv").read_text(), replaces=True),
    "export": Job(_export, _card, replaces=True),
    "makelr": Job(_lower, _images),
    "convert": Job(_convert, _images),
    "tracks": Job(_cut_tracks, _images),
    "synthetic": Job(_draw, _images),
}
"""Name -> command."""


def digest(path: Path) -> str:
    """Of the content of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def contents(folder: Path) -> Counter[tuple[str, str]]:
    """Names and digests of all files with final names, wherever they lie."""
    return Counter((path.name, digest(path)) for path in _final_files(folder))


def check_nothing_lost(before: Counter[tuple[str, str]], folder: Path) -> None:
    """Everything from before still exists, in its place or moved to another folder."""
    lost = sorted(name for name, _ in before - contents(folder))
    assert lost == [], f"lost or changed: {lost}"


def check_whole(folder: Path) -> None:
    """Every file with a final name can be read to its end."""
    for path in _final_files(folder):
        _check_readable(path)
    for meta in folder.rglob("meta.json"):
        open_gallery(meta.parent)
    for metrics in folder.rglob("metrics.csv"):
        epochs = [int(row["epoch"]) for row in read_metrics(metrics)]
        assert epochs == list(range(len(epochs))), f"{metrics} has the epochs {epochs}"


def check_clean(folder: Path) -> None:
    """No file or folder of unfinished work is left."""
    ends = (".part", ".unfinished")
    remains = [
        str(path)
        for path in folder.rglob("*")
        if path.name.endswith(ends) or (path.name.startswith(".") and not path.name.endswith(".lock"))
        if not path.name.startswith(".index_")  # an index that another search may be building
    ]
    assert remains == [], f"unfinished work is left: {remains}"


def _check_readable(path: Path) -> None:
    try:
        _READERS.get(path.suffix, lambda _: None)(path)
    except Exception as error:
        raise AssertionError(f"{path} is not whole: {error}") from error


def _final_files(folder: Path) -> Sequence[Path]:
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return [path for path in paths if "embeddings.part" not in path.parts or path.suffix == ".npz"]


def _read_image(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


def _read_table(path: Path) -> None:
    with path.open(encoding="utf-8", newline="") as file:
        widths = {len(row) for row in csv.reader(file)}
    assert len(widths) == 1, f"rows of {widths} cells"


def _read_page(path: Path) -> None:
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")


def _read_arrays(path: Path) -> None:
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays:
            arrays[name]


_READERS: dict[str, Callable[[Path], object]] = {
    ".pth": lambda path: torch.load(path, weights_only=True, map_location="cpu"),
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".yml": lambda path: yaml.safe_load(path.read_text(encoding="utf-8")),
    ".npy": lambda path: np.load(path, mmap_mode="r", allow_pickle=False),
    ".npz": _read_arrays,
    ".csv": _read_table,
    ".html": _read_page,
    ".jpg": _read_image,
    ".png": _read_image,
}
