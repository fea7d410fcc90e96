"""Files that tests of data sets make."""

from pathlib import Path

import numpy as np
from PIL import Image


def touch(root: Path, *files: str) -> Path:
    """Empty files below a folder, which is returned."""
    root.mkdir(parents=True, exist_ok=True)
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def noise(height: int, width: int, channels: int = 3, seed: int = 5) -> np.ndarray:
    """(height, width, channels) uint8, without the last axis for one channel."""
    shape = (height, width, channels)[: 3 if channels > 1 else 2]
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save_image(path: Path, image: Image.Image | np.ndarray, **options: object) -> Path:
    """Write an image by Pillow, with the options of its format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of all files below a folder, by name within it."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
