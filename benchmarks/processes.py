"""Two processes of one thread each against one process of two threads, on the same images.

Both train on batches that are ready, of which each of the two processes has a half; the losses see the joint batch
(SOLVER.GATHER_EMBEDDINGS). The two are measured in turn; the first steps, in which torch warms up, do not count.
A process takes the statistics of its batch normalizations from its own half, so the losses are compared in one more
run of each with fixed statistics.

    python -m benchmarks.processes [--rounds 3] [--backbone osnet_x0_25] [--size 256 128]
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path

import numpy
import torch
from pytorch_lightning import Callback, Trainer
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from datasets.batch import Batch, SeededIndex
from datasets.image_dataset import ImageDataset, collate
from datasets.preprocessing import Preprocessing
from datasets.readers import read_dataset
from datasets.samplers import PKBatchSampler, ProcessShare
from datasets.synthetic import SyntheticSpec, draw_dataset
from datasets.transforms import Augmentation, TrainTransform
from engine.builders.data import build_input
from engine.builders.model import build_network
from engine.builders.objective import build_objective, build_views
from engine.builders.trainer import build_optimizer_config, build_trainer
from engine.methods import BASELINE
from engine.settings import Settings
from modelling.evaluator import Evaluator
from modelling.reid_module import ReidModule

IMAGES, INSTANCES, PROCESSES, WARM_UP = 64, 4, 2, 3


class Record(Callback):
    """Records when each step ends, and its loss."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        """Record both."""
        self.ends.append(time.perf_counter())
        self.losses.append(float(trainer.callback_metrics["train/loss_step"]))


def make_module(cfg: CfgNode, num_ids: int) -> ReidModule:
    """A module with the same weights each time."""
    torch.manual_seed(0)
    network = build_network(cfg)
    return ReidModule(
        network,
        build_input(cfg),
        Evaluator((), [], []),
        build_objective(cfg, num_ids, network.head),
        build_optimizer_config(cfg),
        build_views(cfg, BASELINE.name, low_resolution=False),
        gathers=cfg.SOLVER.GATHER_EMBEDDINGS,
    )


def read_batches(folder: Path, size: tuple[int, int], shares: list[int]) -> tuple[list[Batch], int]:
    """The batches of some of the processes as one, and the number of identities."""
    samples = read_dataset(str(folder), Path()).train
    people = sorted({sample.person_id for sample in samples})
    labels = [people.index(sample.person_id) for sample in samples]
    dataset = ImageDataset(samples, labels, TrainTransform(Preprocessing(size), Augmentation(), (1,)))
    per_batch = IMAGES // PROCESSES // INSTANCES
    samplers = [PKBatchSampler(labels, per_batch, INSTANCES, 0, ProcessShare(share, PROCESSES)) for share in shares]
    rows: list[list[SeededIndex]] = [[*chain(*parts)] for parts in zip(*samplers, strict=True)]
    return [collate([dataset[index] for index in indices]) for indices in rows], len(people)


def train(options: argparse.Namespace) -> None:
    """The work of one process: one epoch; print seconds per step and losses as JSON."""
    shares = [options.share] if options.processes > 1 else list(range(PROCESSES))
    batches, num_ids = read_batches(Path(options.folder), tuple(options.size), shares)
    values = {
        "MODEL.NAME": options.backbone, "MODEL.PRETRAINED": False, "SOLVER.MAX_EPOCHS": 1, "SOLVER.EVAL_PERIOD": 2,
        "SOLVER.GATHER_EMBEDDINGS": True, "TRAINER.DEVICES": options.processes, "TRAINER.ACCELERATOR": "cpu",
        "TRAINER.PRECISION": "32-true", "SOLVER.LOG_PERIOD": 1,
    }  # fmt: skip
    cfg = Settings({}, values).for_training(BASELINE, None, resume=False)
    module, record = make_module(cfg, num_ids), Record()
    if options.fixed:
        for part in module.network.modules():
            part.train(not isinstance(part, _BatchNorm))
    build_trainer(cfg, callbacks=[record]).fit(module, DataLoader(batches, batch_size=None))
    seconds = statistics.median(numpy.diff(record.ends)[WARM_UP:])
    print(json.dumps({"seconds": seconds, "losses": record.losses, "threads": torch.get_num_threads()}))


def run(processes: int, options: argparse.Namespace, folder: str, *, fixed: bool = False) -> dict[str, object]:
    """Train in processes of their own; the first one's seconds and losses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": str(PROCESSES // processes)}
    command = [sys.executable, "-m", "benchmarks.processes", "--processes", str(processes), "--folder", folder]
    command += ["--backbone", options.backbone, "--size", *map(str, options.size), *(["--fixed"] if fixed else [])]
    running = [
        subprocess.Popen(
            [*command, "--share", str(rank)],
            env=os.environ | place | {"LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    outputs = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise RuntimeError("a process failed; its message is above")
    result: dict[str, object] = json.loads(outputs[0].splitlines()[-1])
    return result


def main() -> None:
    """Print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backbone", default="osnet_x0_25")
    parser.add_argument("--size", type=int, nargs=2, default=[256, 128])
    parser.add_argument("--folder", help="of the images: this is one of the processes")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--share", type=int, default=0)
    parser.add_argument("--fixed", action="store_true", help="fixed statistics of batch normalization")
    options = parser.parse_args()
    if options.folder:
        train(options)
        return
    with tempfile.TemporaryDirectory() as place:
        spec = SyntheticSpec(train_ids=48, test_ids=2, cameras=4, images_per_camera=4)
        folder = str(draw_dataset(Path(place, "synthetic"), spec))
        rounds = [[run(processes, options, folder)["seconds"] for processes in (1, 2)] for _ in range(options.rounds)]
        one, two = (run(processes, options, folder, fixed=True)["losses"] for processes in (1, 2))
    seconds = numpy.array(rounds, float)
    ratio = statistics.median(seconds[:, 0] / seconds[:, 1])
    difference = float(numpy.max(numpy.abs(numpy.subtract(one, two) / numpy.array(one))))
    print(f"{'processes':<36}{'images/s':>10}{'ratio':>8}")
    speeds = IMAGES / numpy.median(seconds, 0)
    print(f"{'one of two threads':<36}{speeds[0]:>10.1f}{1.0:>8.3f}")
    print(f"{'two of one thread':<36}{speeds[1]:>10.1f}{ratio:>8.3f}")
    print(f"largest relative difference of a step's loss: {difference:.1e} in {len(numpy.array(one))} steps")
    record = {"benchmark": "processes", "backbone": options.backbone, "size": options.size, "rounds": options.rounds}
    print(json.dumps(record | {"ratio": round(ratio, 4), "loss_difference": difference}))


if __name__ == "__main__":
    main()
