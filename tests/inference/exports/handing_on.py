"""Weights to hand on, for tests."""

from pathlib import Path

from inference import export

FILES = ["README.md", "config.yml", "model.safetensors"]


def hand_on(checkpoint: Path, folder: Path, *options: str) -> int:
    values = ["MODEL.PRETRAIN_PATH", str(checkpoint), "OUTPUT_DIR", str(folder)]
    return export.main(["--format", "safetensors", *options, *values])
