"""The one Lightning module: every training method, validation and test."""

from typing import cast

import torch
import torch.distributed as dist
from pytorch_lightning import LightningModule
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim import Optimizer

from datasets.datamodule import ReidDataModule
from datasets.sample import Batch, Views
from datasets.transforms import NetworkInput
from evaluation.protocols import evaluate
from evaluation.results import Entry, EvaluationProtocol
from losses.objectives import Objective, ObjectiveReport
from modelling.feature_bank import FeatureBank
from modelling.network import ReidNetwork
from modelling.optimization import OptimizerConfig


class ReidModule(LightningModule):
    """Trains an extractor on an objective and evaluates it.

    Optimization is manual because a loss may bring an optimizer of its own, and a second optimizer leaves
    Lightning no automatic way.

    Args:
        extractor: the network.
        network_input: uint8 batch -> network input.
        objective: what training minimizes; None for a test.
        optimization: how; None for a test.
        views: name -> scale of the low resolution. ``{"main": 1}`` trains on the images, ``{"main": 1,
            "low": 4}`` on the images and their low-resolution twins; ``DRAWN`` takes each image's own scale.
            All views of a batch go through the network together.
        protocols: what validation and test measure.

    Attributes:
        results: of the last evaluation.
        vectors: scale -> (Q + G, D) embeddings of a test, the queries first.
    """

    def __init__(
        self,
        extractor: ReidNetwork,
        network_input: NetworkInput,
        protocols: tuple[EvaluationProtocol, ...],
        objective: Objective | None = None,
        optimization: OptimizerConfig | None = None,
        views: Views | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.extractor, self.network_input, self.objective = extractor, network_input, objective
        self._optimization, self._views, self._protocols = (
            optimization,
            views or {"main": Batch.full_resolution},
            protocols,
        )
        self._rates: tuple[str, ...] = ()
        self._needed: dict[int, slice | None] = {}
        self._banks: dict[int, FeatureBank] = {}
        self.results: tuple[Entry, ...] = ()
        self.vectors: dict[int, Tensor] = {}
        if objective is not None and "bn" not in objective.features:
            # Several processes wait for the gradient of each parameter that wants one: this would never come.
            extractor.freeze_normalization()

    def configure_optimizers(self) -> list[Optimizer]:
        """The network's optimizer, then those that losses bring."""
        assert self.objective is not None
        assert self._optimization is not None
        network = [*self.extractor.parameters(), *self.objective.network_parameters()]
        others = self.objective.own_optimizers()
        self._rates = ("train/lr", *(f"train/lr_{name}" for name in others))
        return [self._optimization.build(network), *others.values()]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One step of all optimizers on one P x K batch."""
        optimizers = self._optimizers()
        self._set_rate(optimizers[0], batch_idx)
        report = self._objective_of(batch)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.manual_backward(report.total)
        self._clip(optimizers[0])
        for optimizer in optimizers:
            optimizer.step()
        self._log_training(report, optimizers)

    def on_validation_epoch_start(self) -> None:
        """Make room; give every process the running statistics of the first, which are those a checkpoint keeps."""
        splits = self._data().splits
        queries, rows = len(splits.query), len(splits.query) + len(splits.gallery)
        for scale in sorted({scale for protocol in self._protocols for scale in protocol.scales}):
            start = 0 if any(protocol.query_scale == scale for protocol in self._protocols) else queries
            stop = rows if any(protocol.gallery_scale == scale for protocol in self._protocols) else queries
            self._needed[scale] = slice(start, stop) if stop - start < rows else None
            self._banks[scale] = FeatureBank(rows, self._needed[scale])
        if dist.is_available() and dist.is_initialized():
            for buffer in self.extractor.buffers():
                dist.broadcast(buffer, 0)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Embed a batch of query and gallery images at every scale the protocols ask for."""
        for scale, needed in self._needed.items():
            part = batch.part((batch.rows >= needed.start) & (batch.rows < needed.stop)) if needed else batch
            if len(part.rows):
                self._banks[scale].put(part.rows, self.extractor(self.network_input(*part.at_scale(scale))).bn)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The same as validation."""
        self.validation_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Evaluate; every process gets the same results, in :attr:`results` and in the log."""
        self._evaluate()
        self.vectors = {}

    def on_test_epoch_start(self) -> None:
        """The same as validation."""
        self.on_validation_epoch_start()

    def on_test_epoch_end(self) -> None:
        """The same as validation; the embeddings stay in :attr:`vectors` for what a test does with them."""
        self._evaluate()

    def _evaluate(self) -> None:
        splits = self._data().splits
        for scale in self._needed:
            self.vectors[scale] = self._banks.pop(scale).gather(self.extractor.dim, self.device)
        self.results = evaluate(self.vectors, splits.query, splits.gallery, self._protocols)
        first = self.results[0].result
        values = {"val/mAP": first.mAP, "val/mINP": first.mINP, "val/rank-1": first.cmc[1]}
        self.log_dict(values, prog_bar=True, rank_zero_only=True)
        others = {f"val/mAP {entry.name}": entry.result.mAP for entry in self.results[1:]}
        self.log_dict(others, rank_zero_only=True)

    def _objective_of(self, batch: Batch) -> ObjectiveReport:
        assert self.objective is not None
        inputs = [self.network_input(*view(batch), batch.erased) for view in self._views.values()]
        features = self.extractor(torch.cat(inputs) if len(inputs) > 1 else inputs[0])
        count = len(batch.images)
        parts = zip(self._views, features.raw.split(count), features.bn.split(count), strict=True)
        views = {view: {"raw": raw, "bn": bn} for view, raw, bn in parts}
        report: ObjectiveReport = self.objective(views, batch.labels)
        return report

    def _set_rate(self, optimizer: LightningOptimizer, batch_idx: int) -> None:
        assert self._optimization is not None
        progress = self.current_epoch + batch_idx / self.trainer.num_training_batches
        for group in optimizer.param_groups:
            group["lr"] = self._optimization.base_lr * self._optimization.schedule(progress)

    def _clip(self, optimizer: LightningOptimizer) -> None:
        assert self._optimization is not None
        if self._optimization.clip:
            self.clip_gradients(optimizer.optimizer, self._optimization.clip, "norm")

    def _log_training(self, report: ObjectiveReport, optimizers: list[LightningOptimizer]) -> None:
        # Tensors stay on the device: Lightning copies them when it writes, every SOLVER.LOG_PERIOD steps.
        terms = {f"train/{name}": value for name, value in {**report.terms, **report.statistics}.items()}
        self.log_dict(terms, on_step=True, on_epoch=True)
        self.log("train/loss", report.total.detach(), on_step=True, on_epoch=True, prog_bar=True)
        for name, optimizer in zip(self._rates, optimizers, strict=True):
            # As a tensor, which stays on the CPU: a plain number would be copied to the device, and waited for.
            self.log(name, torch.tensor(optimizer.param_groups[0]["lr"]), on_step=True, on_epoch=False)

    def _optimizers(self) -> list[LightningOptimizer]:
        optimizers = self.optimizers()
        return cast(list[LightningOptimizer], optimizers if isinstance(optimizers, list) else [optimizers])

    def _data(self) -> ReidDataModule:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, ReidDataModule)
        return data
