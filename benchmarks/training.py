"""Training from files to weights against the bare loop on a ready batch, and against the usual way.

- bare: the network, losses and optimizers of the same configuration, precision and layout, on one ready batch;
- files to weights: what `train.py` runs, loaders, Lightning and log included;
- files to weights, pixels cached (with `--cache`): the same with `DATASETS.CACHE_DIR`, all images in it beforehand;
- usual: float32, NCHW, transforms of Pillow images in loader workers, cross entropy and batch-hard triplet loss in a
  plain loop, subnormal numbers computed as they are.

Each row runs in a process of its own, in turn, several times; the median step counts, its data included.

    python -m benchmarks.training [--rounds 3] [--backbone osnet_x0_25] [--weights FILE] [--data FOLDER] [--cache]
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from pytorch_lightning import Callback, Trainer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from yacs.config import CfgNode

from datasets.datamodule import ReidDataModule
from datasets.sample import ReidSplits, identities
from datasets.synthetic import SyntheticSpec, draw_dataset
from engine.builders.data import build_datamodule, build_input, read_training_data
from engine.builders.model import build_network
from engine.builders.objective import build_objective, build_views
from engine.builders.trainer import build_optimizer_config, build_trainer
from engine.cli import parse
from engine.hardware import accelerator, prepare_process
from engine.methods import BASELINE
from engine.runs import new_run
from engine.tuning import tune
from engine.weights import initial_weights, initialize
from modelling.evaluator import Evaluator
from modelling.reid_module import ReidModule

_SIZE = (256, 128)
_CACHED = "files to weights, pixels cached"


class Clock(Callback):
    """Records when each step ends, and stops after some."""

    def __init__(self, steps: int) -> None:
        self.ends: list[float] = []
        self._steps = steps

    def on_train_batch_end(self, trainer: Trainer, module: ReidModule, *_: object) -> None:
        """Record it; the trainer has logged the step already."""
        self.ends.append(_now(module.device))
        trainer.should_stop = len(self.ends) == self._steps


class PillowImages(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Images as the usual way prepares them."""

    def __init__(self, splits: ReidSplits) -> None:
        labels = {person: label for label, person in enumerate(identities(splits.train))}
        self.items = [(sample.path, labels[sample.person_id]) for sample in splits.train]
        self.transform = transforms.Compose(
            [
                transforms.Resize(_SIZE),
                transforms.RandomHorizontalFlip(0.5),
                transforms.Pad(10),
                transforms.RandomCrop(_SIZE),
                transforms.ToTensor(),
                transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
                transforms.RandomErasing(0.5),
            ]
        )

    def __len__(self) -> int:
        """Number of images."""
        return len(self.items)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        """One image and its label."""
        path, label = self.items[row]
        return self.transform(Image.open(path).convert("RGB")), label


class IdentityBatches(torch.utils.data.Sampler[list[int]]):
    """Four images of each identity of a batch, for ever."""

    def __init__(self, labels: list[int], batch: int) -> None:
        self.rows: dict[int, list[int]] = {}
        for row, label in enumerate(labels):
            self.rows.setdefault(label, []).append(row)
        self.people = batch // 4

    def __iter__(self) -> Iterator[list[int]]:
        """Rows of one batch after another."""
        while True:
            people = random.sample(sorted(self.rows), self.people)
            yield [row for person in people for row in random.choices(self.rows[person], k=4)]


def usual(options: argparse.Namespace, folder: Path) -> list[float]:
    """Ends of the steps of the usual way."""
    settings = parse(arguments(options, folder))
    cfg = settings.for_training(BASELINE, weights := initial_weights(settings, BASELINE), resume=False)
    splits, _ = read_training_data(cfg)
    network, device = build_network(cfg), torch.device(accelerator(cfg))
    initialize(network, cfg, weights)
    images = PillowImages(splits)
    sampler = IdentityBatches([label for _, label in images.items], options.batch)
    loader = DataLoader(images, batch_sampler=sampler, num_workers=options.workers)
    classifier = nn.Linear(network.dim, len(sampler.rows), bias=False)
    network.to(device).train(), classifier.to(device)
    optimizer = torch.optim.Adam([*network.parameters(), *classifier.parameters()], lr=3.5e-4, weight_decay=5e-4)
    ends = []
    for pixels, labels in loader:
        ids = labels.to(device)
        features = network(pixels.to(device))
        loss = F.cross_entropy(classifier(features.bn), ids, label_smoothing=0.1) + _triplet(features.raw, ids)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ends.append(_now(device))
        if len(ends) == options.steps + 1:
            return ends
    return ends


def _triplet(embeddings: Tensor, ids: Tensor) -> Tensor:
    distances = torch.cdist(embeddings, embeddings)
    same = ids[:, None] == ids
    positive = (distances * same).max(1).values
    negative = (distances + 1e9 * same).min(1).values
    return F.margin_ranking_loss(negative, positive, torch.ones_like(positive), margin=0.3)


class Parts(NamedTuple):
    """What a training consists of."""

    cfg: CfgNode
    module: ReidModule
    data: ReidDataModule


def build_parts(keys: list[str]) -> Parts:
    """The parts of a training from the arguments of `train.py`."""
    settings = parse(keys)
    prepare_process(settings.cfg)
    cfg = settings.for_training(BASELINE, weights := initial_weights(settings, BASELINE), resume=False)
    splits, _ = read_training_data(cfg)
    torch.manual_seed(0)
    network = build_network(cfg)
    cfg = tune(cfg, network, {})
    data = build_datamodule(cfg, splits, [1], [1])
    objective = build_objective(cfg, data.num_ids, network.head)
    initialize(network, cfg, weights)
    views = build_views(cfg, "baseline", low_resolution=False)
    evaluator = Evaluator((), [], [])
    optimizer_config = build_optimizer_config(cfg)
    return Parts(cfg, ReidModule(network, build_input(cfg), evaluator, objective, optimizer_config, views), data)


def framework(options: argparse.Namespace, folder: Path, *, ready: bool = False, cache: bool = False) -> list[float]:
    """Ends of the steps of our own training: from files, from cached pixels, or (bare) on a batch that lies ready."""
    keys = ("DATASETS.CACHE_DIR", str(folder / "pixels")) if cache else ()
    cfg, module, data = build_parts([*arguments(options, folder), *keys])
    if cache:
        images = data.train_dataloader().dataset
        for row in range(len(data.splits.train)):
            images[row]
    if ready:
        return bare(module, data.train_dataloader(), cfg.TRAINER.PRECISION, options.steps, accelerator(cfg))
    clock = Clock(options.steps + 1)
    trainer = build_trainer(cfg, new_run(folder / "logs", folder / "runs", Path("a/b/c")), [clock])
    trainer.fit(module, train_dataloaders=data.train_dataloader())
    data.close()
    return clock.ends


def bare(module: ReidModule, batches: Iterable[object], precision: str, steps: int, accelerator: str) -> list[float]:
    """Ends of the steps of a plain loop on one batch of pixels that are normalized already."""
    device = torch.device(accelerator)
    module.to(device).train()
    optimizers = module.configure_optimizers()
    batch = next(iter(batches))
    images = module.network_input(batch.images.to(device), 1, batch.erased.to(device))
    labels, objective = batch.labels.to(device), module.objective
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "16-mixed")
    ends = []
    for _ in range(steps + 1):
        with torch.autocast(device.type, dtype, enabled=dtype is not None, cache_enabled=False):
            total = objective({"main": module.network(images)._asdict()}, labels).total
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        scaler.scale(total).backward()
        for optimizer in optimizers:
            scaler.step(optimizer)
        scaler.update()
        ends.append(_now(device))
    return ends


ROWS: dict[str, Callable[[argparse.Namespace, Path], list[float]]] = {
    "bare": lambda options, folder: framework(options, folder, ready=True),
    "files to weights": framework,
    _CACHED: lambda options, folder: framework(options, folder, cache=True),
    "usual": usual,
}


def arguments(options: argparse.Namespace, folder: Path) -> list[str]:
    """The keys of all rows."""
    return [
        *("MODEL.PRETRAINED", "False", "DATASETS.NAMES", str(options.data), "TRAINER.PRECISION", options.precision),
        *(("MODEL.PRETRAIN_PATH", str(options.weights)) if options.weights else ("MODEL.NAME", options.backbone)),
        *("DATALOADER.NUM_WORKERS", str(options.workers), "SOLVER.IMS_PER_BATCH", str(options.batch)),
        *("INPUT.SIZE_TRAIN", str([*_SIZE]), "INPUT.SIZE_TEST", str([*_SIZE]), "SOLVER.MAX_EPOCHS", "99"),
        *("LOGS_DIR", str(folder / "logs"), "RUNS_DIR", str(folder / "runs")),
    ]


def _now(device: torch.device) -> float:
    """The time when all work of the device so far is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _seconds_per_step(row: str, argv: list[str]) -> float:
    """Run a row in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training", "--row", row, *argv]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return float(lines[-1])


def main(argv: list[str]) -> None:
    """Print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10, help="timed steps of a row in a round")
    parser.add_argument("--backbone", default="osnet_x0_25", help="with random weights")
    parser.add_argument("--weights", type=Path, help="a trained model instead")
    parser.add_argument("--data", type=Path, help="a data set of ours instead of a drawn one")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--precision", default="auto", help="TRAINER.PRECISION of the first two rows")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--cache", action="store_true", help="one more row: with DATASETS.CACHE_DIR")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.row:
            ends = ROWS[options.row](options, folder)
            print(statistics.median(after - before for before, after in pairwise(ends)))
            return
        if options.data is None:
            spec = SyntheticSpec(train_ids=64, test_ids=2, cameras=4, images_per_camera=5)
            options.data = draw_dataset(folder / "drawn", spec)
            argv = [*argv, "--data", str(options.data)]
        rows = [row for row in ROWS if options.cache or row != _CACHED]
        rounds = [{row: _seconds_per_step(row, argv) for row in rows} for _ in range(options.rounds)]
    _report(options, {row: options.batch / statistics.median(times[row] for times in rounds) for row in rows})


def _report(options: argparse.Namespace, speeds: dict[str, float]) -> None:
    ours = speeds["files to weights"]
    print(f"{'training':<33}{'images/s':>10}{'of bare':>10}{'files to weights / this':>26}")
    for row, speed in speeds.items():
        print(f"{row:<33}{speed:>10.1f}{speed / speeds['bare']:>10.2f}{ours / speed:>26.2f}")
    record = {
        "benchmark": "training",
        "backbone": options.weights.name if options.weights else options.backbone,
    }
    record |= {"threads": torch.get_num_threads(), "batch": options.batch, "rounds": options.rounds}
    record |= {f"ratio to {row}": round(ours / speeds[row], 3) for row in ("bare", "usual")}
    if options.cache:
        record["ratio to bare, pixels cached"] = round(speeds[_CACHED] / speeds["bare"], 3)
    print(json.dumps(record))


if __name__ == "__main__":
    main(sys.argv[1:])
