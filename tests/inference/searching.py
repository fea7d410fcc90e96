"""Searches of drawn people by the script, for tests."""

import csv
from pathlib import Path

from inference import get_similar

QUERIES = ("0007_c3s1_000001_00.jpg", "0012_c1s1_000002_00.jpg", "stranger.png")


def settings(folder: Path, checkpoint: Path, output: Path) -> list[str]:
    paths = ["DATASETS.ROOT_DIR", str(folder), "MODEL.PRETRAIN_PATH", str(checkpoint), "OUTPUT_DIR", str(output)]
    return [*paths, "TRAINER.ACCELERATOR", "cpu"]


def search(queries: Path, checkpoint: Path, output: Path, *options: str) -> int:
    shared = ["--gallery_data", str(output), "--precision", "fp32"]
    return get_similar.main([*shared, *options, *settings(queries, checkpoint, output)])


def lines(output: Path) -> list[dict[str, str]]:
    with (output / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))
