"""Cost of opening a data set against a bare walk of its folders.

    python -m benchmarks.opening
    python -m benchmarks.opening --files 500000 --layout folders
    python -m benchmarks.opening --layout drawn    # folders of identities without a split
    python -m benchmarks.opening --dataset ../datasets/market1501

Without ``--dataset`` it makes empty files in a temporary folder: no image is decoded here. Each round times the
bare walk first: the ratio is of one and the same minute of the machine. The walk is `os.scandir` over all
folders, counting files; a reader must pay for it too. The names are in the system's cache for both. With the
layout ``drawn`` the row ``first`` draws and saves the split, and ``read_dataset`` reads it again.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.cost import clock
from datasets.readers import read_dataset

IMAGES_PER_IDENTITY, CAMERAS = 20, 6
MARKET_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
FOLDERS = {  # layout -> folder of an image; the split and the identity are filled in
    "market": "{part}",
    "csv": "{part}",
    "folders": "{split}/{person:06d}",
    "drawn": "{person:06d}",
    "msmt17": "{half}/{person:06d}",
}
LAYOUTS = tuple(FOLDERS)


def plan(files: int) -> Iterator[tuple[str, int, int, str]]:
    """Split, identity, camera and file name: half the identities train, each camera's first image a query."""
    for i in range(files):
        person, image = divmod(i, IMAGES_PER_IDENTITY)
        camera = 1 + image % CAMERAS
        split = "train" if person % 2 else "query" if image < CAMERAS else "gallery"
        yield split, person + 1, camera, f"{person + 1:06d}_c{camera}s1_{image:06d}_00.jpg"


def make_dataset(root: Path, files: int, layout: str) -> Path:
    """Empty files, and what to give ``read_dataset`` for them."""
    folders: set[Path] = set()
    rows = ["path,person_id,camera_id,split"]
    lists: dict[str, list[str]] = {part: [] for part in ("train", "val", "query", "gallery")}
    for split, person, camera, name in plan(files):
        half, part = "train" if split == "train" else "test", MARKET_FOLDERS[split]
        name = name.replace(f"_c{camera}s1_", f"_000_{camera:02d}_") if layout == "msmt17" else name
        folder = root / FOLDERS[layout].format(split=split, part=part, half=half, person=person)
        if folder not in folders:
            folder.mkdir(parents=True)
            folders.add(folder)
        os.close(os.open(folder / name, os.O_CREAT))
        rows.append(f"{part}/{name},{person},{camera},{split}")
        lists["val" if half == "train" and person % 10 == 0 else split].append(f"{folder.name}/{name} {person}")
    if layout == "csv":
        (root / "images.csv").write_text("\n".join(rows))
        return root / "images.csv"
    if layout == "msmt17":
        for split, lines in lists.items():
            (root / f"list_{split}.txt").write_text("\n".join(lines))
    return root


def walk(folder: str) -> int:
    """Number of files below a folder."""
    count = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            count += walk(entry.path) if entry.is_dir() else 1
    return count


def measure(dataset: Path, repeats: int, *, draws_split: bool = False) -> tuple[int, list[dict[str, object]]]:
    """Number of files, and medians over the rounds of seconds and of the ratio to the round's own walk."""
    folder = str(dataset if dataset.is_dir() else dataset.parent)
    files = walk(folder)

    def first() -> None:
        Path(folder, "split_seed0.csv").unlink(missing_ok=True)
        read_dataset(str(dataset), Path())

    methods: dict[str, Callable[[], object]] = {"bare walk": lambda: walk(folder)}
    if draws_split:
        methods["first"] = first
    methods["read_dataset"] = lambda: read_dataset(str(dataset), Path())
    rounds = [{name: clock(run) for name, run in methods.items()} for _ in range(repeats)]
    rows: list[dict[str, object]] = []
    for name in methods:
        wall, cpu = (statistics.median(times[name][i] for times in rounds) for i in (0, 1))
        ratio = statistics.median(times[name][0] / times["bare walk"][0] for times in rounds)
        per = 100_000 / files
        row = {"seconds": wall, "ratio": ratio, "seconds_per_100k": wall * per, "cpu_seconds_per_100k": cpu * per}
        rows.append({"method": name, **row})
    return files, rows


def main() -> None:
    """Parse, measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000, help="empty files to make")
    parser.add_argument("--layout", choices=LAYOUTS, default="market", help="of the files made")
    parser.add_argument("--dataset", type=Path, help="take this folder or CSV file instead of making one")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dataset = options.dataset or make_dataset(Path(folder, "made"), options.files, options.layout)
        files, rows = measure(dataset, options.repeats, draws_split=not options.dataset and options.layout == "drawn")
    what = str(options.dataset) if options.dataset else options.layout
    print(f"{what}, {files} files, median of {options.repeats} rounds")
    print(f"{'method':14} {'seconds':>9} {'x walk':>8} {'s per 100,000 files':>20} {'CPU s per 100,000':>18}")
    for row in rows:
        per = f"{row['seconds_per_100k']:20.3f} {row['cpu_seconds_per_100k']:18.3f}"
        print(f"{row['method']:14} {row['seconds']:9.3f} {row['ratio']:8.2f} {per}")
    print(json.dumps({"dataset": what, "files": files, "repeats": options.repeats, "rows": rows}))


if __name__ == "__main__":
    main()
