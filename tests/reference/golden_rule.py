"""The weights and images behind the files of tests/goldens, made again from names and shapes.

Each JSON there describes a checkpoint as another project saves it, and its NPZ has the features that this project's own
code computed with it. ``tests/goldens/README.md`` has the rule in words.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FOLDER = Path(__file__).parents[1] / "goldens"

_EMBEDDINGS = {
    *("pos_embed", "cls_token", "sie_embed", "cv_embed", "class_embedding", "positional_embedding", "cls_ctx"),
    *("relative_position_bias_table", "token_prefix", "token_suffix"),
}


def specification(name: str) -> dict[str, Any]:
    """The JSON of a golden."""
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return content


def features(name: str) -> dict[str, NDArray[np.float32]]:
    """The features of a golden, by name."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def checkpoint(spec: dict[str, Any]) -> dict[str, Any]:
    """What the project saves."""
    constants = spec.get("constants", {})
    state = {
        name: torch.from_numpy(
            np.asarray(constants[name], np.float32).reshape(shape)
            if name in constants
            else _tensor(name, tuple(shape))
        )
        for name, shape in spec["state"].items()
    }
    return {spec["wrap"]: state} if spec.get("wrap") else state


def images(spec: dict[str, Any], *, blocks: bool) -> Tensor:
    """(3, 3, H, W) uint8 RGB: noise, or squares of 32 pixels."""
    height, width = spec["input_size"]
    if not blocks:
        return torch.from_numpy(np.random.default_rng(7).integers(0, 256, (3, 3, height, width)).astype(np.uint8))
    small = np.random.default_rng(8).integers(0, 256, (3, 3, height // 32, width // 32)).astype(np.uint8)
    return torch.from_numpy(small.repeat(32, axis=2).repeat(32, axis=3))


def _tensor(name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    last = name.rpartition(".")[2]
    if last == "relative_position_index":
        return _relative_positions(round(shape[0] ** 0.5))
    if last in ("num_batches_tracked", "queue_ptr"):
        return np.zeros(shape, np.int64)
    if last == "p":
        return np.full(shape, 3.0, np.float32)
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    if last == "running_var" or (len(shape) == 1 and last == "weight"):
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    return generator.normal(0.0, _deviation(name, shape), shape).astype(np.float32)


def _deviation(name: str, shape: tuple[int, ...]) -> float:
    *_, parent, last = ("", *name.split("."))
    if last == "running_mean":
        return 0.1
    if last in _EMBEDDINGS:
        return 0.02
    if last.endswith("bias"):
        return 0.05
    # in a non-local block the features are cubic, and its values would overflow
    factor = 0.2 if last == "weight" and parent in ("theta", "phi", "g") else 1.0
    return factor * float((1 / int(np.prod(shape[1:]))) ** 0.5)


def _relative_positions(window: int) -> NDArray[np.int64]:
    rows, columns = np.divmod(np.arange(window * window), window)
    down = rows[:, None] - rows[None, :] + window - 1
    right = columns[:, None] - columns[None, :] + window - 1
    return (down * (2 * window - 1) + right).astype(np.int64)
