"""Memory that training takes, counted and not measured: weights, gradients, optimizer, what the backward pass keeps.

    python -m benchmarks.memory [CONFIG.yml ...] [--precision 32-true]

Without files it counts those of ``configs/`` that name a published recipe. A table and, as the last line, one JSON
object. What the backward pass keeps is counted by torch's hooks on its saved tensors, each storage once; weights are
not among it. A device takes more: work space of the convolutions, the two tensors of the largest layer, fragments.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from configs import read_config
from engine.builders.model import build_network
from engine.builders.objective import build_objective
from engine.methods import BASELINE
from engine.settings import Settings

FOLDER = Path(__file__).resolve().parents[1] / "configs"
IDENTITIES = 751  # of Market-1501
FACTORS = {"Adam": 4, "AdamW": 4, "SGD": 3, "Adagrad": 3}  # numbers a weight: itself, its gradient, the optimizer's


def count(path: Path, precision: str) -> dict[str, float]:
    """MiB of one configuration: fixed, for each image, and of its batch."""
    cfg = Settings(read_config(path), {"MODEL.PRETRAINED": False}).for_training(BASELINE, None, resume=False)
    network = build_network(cfg).train()
    objective = build_objective(cfg, IDENTITIES, network.head)
    weights = sum(4 * p.numel() for p in [*network.parameters(), *objective.parameters()])
    fixed = FACTORS[cfg.SOLVER.OPTIMIZER_NAME] * weights
    size = (cfg.INPUT.SIZE_TRAIN[0], cfg.INPUT.SIZE_TRAIN[1])
    image = (saved_bytes(network, size, 4, precision) - saved_bytes(network, size, 2, precision)) / 2
    batch = cfg.SOLVER.IMS_PER_BATCH
    return {"fixed": fixed / 2**20, "image": image / 2**20, "batch": (fixed + batch * image) / 2**20}


def saved_bytes(network: nn.Module, size: tuple[int, int], images: int, precision: str) -> int:
    """Bytes of the tensors that the backward pass of this many images needs, without the weights."""
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    storages: dict[int, tuple[int, Tensor]] = {}  # the tensor keeps its address from a second use

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    half = torch.autocast("cpu", torch.bfloat16) if precision == "bf16-mixed" else contextlib.nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), half:
        cameras = torch.zeros(images, dtype=torch.int64) if getattr(network, "num_cameras", 0) else None
        network(torch.randn(images, 3, *size), cameras)
    return sum(nbytes for nbytes, _ in storages.values())


def main(argv: Sequence[str] | None = None) -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="CONFIG.yml")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    options = parser.parse_args(argv)
    files = options.files or sorted(path for path in FOLDER.glob("*.yml") if path.stem != "demo")
    rows = {path.stem: count(path, options.precision) for path in files}
    print(f"{'MiB':24}{'fixed':>10}{'an image':>10}{'a batch':>10}")
    for name, row in rows.items():
        print(f"{name:24}{row['fixed']:10.0f}{row['image']:10.1f}{row['batch']:10.0f}")
    print(json.dumps({"precision": options.precision, "MiB": rows}))


if __name__ == "__main__":
    main()
