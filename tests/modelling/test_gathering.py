"""The losses of several processes on their joint batch."""

import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.multiprocessing as mp
from pytorch_lightning import Callback, Trainer
from torch import Tensor, nn

from datasets.batch import Batch
from datasets.preprocessing import Preprocessing
from datasets.transforms import NetworkInput
from losses.center import CenterLoss
from losses.centroid_triplet import CentroidTripletLoss
from losses.identity import IdentityLoss
from losses.objectives import Objective, Term
from losses.octuplet import OctupletLoss
from losses.triplet import BatchHardTripletLoss
from modelling.evaluator import Evaluator
from modelling.network import ReidNetwork
from modelling.optimization import OptimizerConfig
from modelling.reid_module import ReidModule

SIZE, STEPS, IDENTITIES = (16, 8), 2, 5
PROCESSES = 2


class Step(NamedTuple):
    """What one step of training gives."""

    figures: dict[str, Tensor]
    gradients: dict[str, Tensor]


class Record(Callback):
    """The figures that the log shows of each step, and the gradients behind its update."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def on_train_batch_end(self, trainer: Trainer, module: ReidModule, *_: object) -> None:
        figures = {name: value.clone() for name, value in trainer.callback_metrics.items() if name.endswith("_step")}
        gradients = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
        self.steps.append(Step(figures, gradients))


class Backbone(nn.Sequential):
    """A network without batch normalization: its statistics are those of a process, whose batch is another one."""

    out_channels = 6

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Conv2d(6, 6, 3))


def make_module(*, gathers: bool) -> ReidModule:
    torch.manual_seed(1)
    network = ReidNetwork(Backbone())
    network.head.bn.eval()  # fixed statistics, for the same reason
    terms = [
        Term("identity", IdentityLoss(IDENTITIES, 6), 1.0, "bn", ("main",)),
        Term("triplet", BatchHardTripletLoss(0.3), 1.0, "raw", ("main",)),
        Term("center", CenterLoss(IDENTITIES, 6), 0.01, "raw", ("main",)),
        Term("centroid_triplet", CentroidTripletLoss(0.3), 1.0, "raw", ("low",)),
        Term("octuplet", OctupletLoss(1.0), 1.0, "bn", ("main", "low")),
    ]
    config = OptimizerConfig("SGD", 0.1, 0.0, 0.0, lambda _: 1.0)
    views = {"main": Batch.full_resolution, "low": Batch.low_resolution}
    evaluator = Evaluator((), [], [])
    pixels = NetworkInput(Preprocessing(SIZE), (2,))
    return ReidModule(network, pixels, evaluator, Objective(terms), config, views, gathers=gathers)


def make_batch(step: int, ranks: Iterable[int]) -> Batch:
    """The images of some processes in one step; two identities are in the batches of both."""
    parts = []
    for rank in ranks:
        torch.manual_seed(10 * step + rank)
        labels = torch.tensor([0, 0, 1, 1, 2, 2]) if rank == 0 else torch.tensor([3, 3, 1, 4, 2, 4])
        parts.append((torch.randint(0, 256, (6, 3, *SIZE), dtype=torch.uint8), labels))
    images, labels = (torch.cat(column) for column in zip(*parts, strict=True))
    scales = torch.full_like(labels, 2)
    return Batch(images, labels, torch.arange(len(labels)), torch.zeros(len(labels), 4).long(), scales, None, {})


def train(ranks: Iterable[int], devices: int, *, gathers: bool) -> list[Step]:
    """Train on the images of these ranks."""
    record = Record()
    trainer = Trainer(
        accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", max_epochs=1, logger=False,
        log_every_n_steps=1,
        callbacks=[record], use_distributed_sampler=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    batches = [make_batch(step, ranks) for step in range(STEPS)]
    loader = torch.utils.data.DataLoader(batches, batch_size=None)
    trainer.fit(make_module(gathers=gathers), loader)
    return record.steps


def train_process(rank: int, port: int, folder: Path) -> None:
    os.environ.update(LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    steps = {gathers: train([rank], PROCESSES, gathers=gathers) for gathers in (True, False)}
    torch.save({gathers: [tuple(step) for step in steps[gathers]] for gathers in steps}, folder / f"{rank}.pth")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_that_gather_train_as_one_on_the_joint_batch(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(train_process, (port, tmp_path), nprocs=PROCESSES, join=True)
    results = [torch.load(tmp_path / f"{rank}.pth") for rank in range(PROCESSES)]
    joint = train(range(PROCESSES), 1, gathers=True)
    assert len(joint) == STEPS
    assert {"train/loss_step", "train/octuplet_step", "train/identity/accuracy_step"} <= joint[0].figures.keys()
    assert "objective.terms.center.centers" in joint[0].gradients
    for steps in results:
        for step, reference in zip(steps[True], joint, strict=True):
            torch.testing.assert_close(step, tuple(reference), rtol=1e-5, atol=1e-5)
    alone = [float(steps[False][0][0]["train/triplet_step"]) for steps in results]
    assert abs(sum(alone) / PROCESSES - float(joint[0].figures["train/triplet_step"])) > 1e-3  # mined in half of it
