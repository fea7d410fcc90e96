"""What the framework costs: steps of `ReidModule` under Lightning against a bare PyTorch loop.

Same network, batches, losses and optimizers on both sides; the bare loop has no logging. Both read the same
synthetic data set through the same loader, in turn, several times. A step lasts from the end of one to the
end of the next, its data included; the first of an epoch, with the start of the trainer, is not counted.

    python -m benchmarks.training_step [--rounds 5] [--backbone resnet18]
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy
import torch
from pytorch_lightning import Callback

from datasets.datamodule import LoaderSettings, ReidDataModule
from datasets.preprocessing import Preprocessing
from datasets.readers import read_dataset
from datasets.synthetic import SyntheticSpec, draw_dataset
from engine.builders.data import build_input
from engine.builders.evaluation import build_protocols, protocol_names
from engine.builders.model import build_network
from engine.builders.objective import build_objective, build_views
from engine.builders.trainer import build_optimizer_config, build_trainer
from engine.methods import BASELINE
from engine.runs import new_run
from engine.settings import Settings
from modelling.evaluator import Evaluator
from modelling.reid_module import ReidModule


class Clock(Callback):
    """Records when each step ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer: object, module: ReidModule, *_: object) -> None:  # noqa: ARG002
        """Record it; the trainer has logged the step already."""
        self.ends.append(_now(module.device))


def make_module(settings: Settings, num_ids: int) -> ReidModule:
    """A fresh module with the same weights each time."""
    cfg = settings.for_training(BASELINE, None, resume=False)
    torch.manual_seed(0)
    network = build_network(cfg)
    objective = build_objective(cfg, num_ids, network.dim)
    views = build_views(cfg, "baseline", low_resolution=False)
    evaluator = Evaluator(build_protocols(cfg, protocol_names(cfg), [(1, 1)], camera_rule=True), [], [])
    return ReidModule(network, build_input(cfg), evaluator, objective, build_optimizer_config(cfg), views)


def bare_epoch(module: ReidModule, data: ReidDataModule, device: torch.device) -> float:
    """Seconds per step of a plain loop."""
    module.to(device).train()
    optimizers = module.configure_optimizers()
    loader, objective = data.train_dataloader(), module.objective
    assert objective is not None
    ends = []
    for batch in loader:
        images = module.network_input(batch.images.to(device), 1, batch.erased.to(device))
        features = module.network(images)
        total = objective({"main": features._asdict()}, batch.labels.to(device)).total
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        total.backward()
        for optimizer in optimizers:
            optimizer.step()
        ends.append(_now(device))
    return statistics.median(numpy.diff(ends))


def framework_epoch(module: ReidModule, data: ReidDataModule, settings: Settings) -> float:
    """Seconds per step of `Trainer.fit` with logging, from the first step's data to the last step's end."""
    with tempfile.TemporaryDirectory() as folder:
        cfg = settings.cfg
        run = new_run(Path(folder, "logs"), Path(folder, "runs"), Path("a/b/c"))
        clock = Clock()
        trainer = build_trainer(cfg, run, [clock])
        trainer.fit(module, train_dataloaders=data.train_dataloader())
        return statistics.median(numpy.diff(clock.ends))


def _now(device: torch.device) -> float:
    """The time when all work of the device so far is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    """Print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backbone", default="resnet18")
    options = parser.parse_args()
    values = {
        "MODEL.NAME": options.backbone,
        "MODEL.PRETRAINED": False,
        "SOLVER.MAX_EPOCHS": 1,
        "SOLVER.EVAL_PERIOD": 2,
    }
    settings = Settings({}, values)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        spec = SyntheticSpec(train_ids=64, test_ids=2, cameras=4, images_per_camera=5)
        splits = read_dataset(str(draw_dataset(Path(folder, "synthetic"), spec)), Path())
        loader = LoaderSettings(Preprocessing((128, 64)), (128, 64), batch=64, workers=0)
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
