"""What the framework costs: an epoch of `ReidModule` under Lightning against a bare PyTorch loop.

Same network, batches, losses and optimizers on both sides; the bare loop has no logging, no checkpoint and
no validation. Both read the same synthetic data set through the same loader, in turn, several times.

    python benchmarks/training_step.py [--rounds 5] [--backbone resnet18]
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from datasets.datamodule import LoaderSettings, ReidDataModule
from datasets.readers import read_dataset
from datasets.synthetic import SyntheticSpec, draw_dataset
from datasets.transforms import Augmentation
from engine import build
from engine.cli import Settings
from engine.recipes import BASELINE
from losses.objectives import Objective
from modelling.reid_module import ReidModule


def make_module(settings: Settings, num_ids: int) -> ReidModule:
    """A fresh module with the same weights each time."""
    cfg = settings.resolve()
    torch.manual_seed(0)
    extractor = build.build_extractor(cfg)
    objective = Objective(BASELINE.terms(cfg, num_ids, extractor.dim))
    protocols = build.build_protocols(cfg)
    return ReidModule(extractor, build.build_input(cfg), protocols, objective, build.build_optimization(cfg))


def bare_epoch(module: ReidModule, data: ReidDataModule, device: torch.device) -> float:
    """Seconds per step of a plain loop."""
    module.to(device).train()
    optimizers = module.configure_optimizers()
    loader, objective = data.train_dataloader(), module.objective
    assert objective is not None
    steps, began = 0, time.perf_counter()
    for batch in loader:
        images = module.network_input(batch.images.to(device), 1, batch.erased.to(device))
        features = module.extractor(images)
        total = objective({"raw": features.raw, "bn": features.bn}, batch.labels.to(device)).total
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        total.backward()
        for optimizer in optimizers:
            optimizer.step()
        steps += 1
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / steps


def framework_epoch(module: ReidModule, data: ReidDataModule, settings: Settings) -> float:
    """Seconds per step of `Trainer.fit` with logging, from the first step's data to the last step's end."""
    with tempfile.TemporaryDirectory() as folder:
        cfg = settings.resolve()
        run = build.new_run(Path(folder, "logs"), Path(folder, "runs"), Path("a/b/c"))
        trainer = build.build_trainer(cfg, run)
        loader = data.train_dataloader()
        began = time.perf_counter()
        trainer.fit(module, train_dataloaders=loader)
        return (time.perf_counter() - began) / len(loader)


def main() -> None:
    """Print a table and one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backbone", default="resnet18")
    options = parser.parse_args()
    values = {"MODEL.NAME": options.backbone, "MODEL.PRETRAINED": False, "SOLVER.MAX_EPOCHS": 1}
    settings = Settings({}, values)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        spec = SyntheticSpec(train_ids=32, test_ids=2, cameras=4, images_per_camera=4)
        splits = read_dataset(str(draw_dataset(Path(folder, "synthetic"), spec)), Path())
        loader = LoaderSettings((128, 64), (128, 64), Augmentation(), 64, 4, 64, workers=0)
        data = ReidDataModule(splits, loader)
        bare_epoch(make_module(settings, data.num_ids), data, device)  # warm-up, not counted
        ratios, seconds = [], []
        for _ in range(options.rounds):
            bare = bare_epoch(make_module(settings, data.num_ids), data, device)
            framework = framework_epoch(make_module(settings, data.num_ids), data, settings)
            ratios.append(framework / bare)
            seconds.append((bare, framework))
    bare, framework = (statistics.median(column) for column in zip(*seconds, strict=True))
    ratio = statistics.median(ratios)
    print(f"{'loop':<28}{'ms per step':>12}{'ratio':>8}")
    print(f"{'bare PyTorch':<28}{1e3 * bare:>12.1f}{1.0:>8.3f}")
    print(f"{'ReidModule under Lightning':<28}{1e3 * framework:>12.1f}{ratio:>8.3f}")
    record = {"benchmark": "training_step", "device": str(device), "backbone": options.backbone}
    record |= {"threads": torch.get_num_threads(), "rounds": options.rounds, "ratio": round(ratio, 4)}
    print(json.dumps(record))


if __name__ == "__main__":
    main()
