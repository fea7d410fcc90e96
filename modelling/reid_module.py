"""The one Lightning module: every training method, validation and test."""

import logging
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.distributed as dist
from pytorch_lightning import LightningModule
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from datasets.batch import Batch, View, Views
from datasets.transforms import NetworkInput
from evaluation.protocols import EvaluationData
from evaluation.results import FIGURES, Entry
from losses.objectives import Objective, ObjectiveReport
from modelling.deployment import Embedder
from modelling.epoch_means import EpochMeans, on_host
from modelling.evaluator import Evaluator
from modelling.heads import Features
from modelling.moving_average import MovingAverage
from modelling.network import ReidNetwork, with_current_names
from modelling.optimization import OptimizerConfig, match_parameters
from modelling.parameter_groups import RATE

logger = logging.getLogger(__name__)


class ReidModule(LightningModule):
    """Trains a network on an objective and evaluates it.

    Optimization is manual, because a loss may have its own optimizer (the center loss does), and Lightning's
    automatic optimization handles only one.

    Args:
        network: images to features; a checkpoint holds its tensors in the plain order whatever its layout.
        network_input: uint8 batch -> network input.
        evaluator: of validation or test.
        objective: what training minimizes; None for a test.
        optimizer_config: optimizer, schedule and clipping; None for a test.
        views: name -> the images of a batch that the network sees under this name. All views of a batch go through
            the network together.
        gathers: the objective sees the batches of all processes, which must have one size.

    Attributes:
        average: the moving average of the network, which is validated and saved beside it; None without one.
        entries: of the last evaluation, one per protocol.
        data: embeddings of the last test, from which pictures are drawn; None after a validation, to save memory.
        is_between_steps: whether the optimizers have made a step with all gradients so far; only then can training
            stop and go on from a checkpoint.
    """

    def __init__(
        self,
        network: ReidNetwork,
        network_input: NetworkInput,
        evaluator: Evaluator,
        objective: Objective | None = None,
        optimizer_config: OptimizerConfig | None = None,
        views: Views | None = None,
        *,
        gathers: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network, self.network_input, self.objective = network, network_input, objective
        self.evaluator = evaluator
        average_decay = optimizer_config.average_decay if optimizer_config else 0.0
        self.average = MovingAverage(network, average_decay) if average_decay else None
        self.entries: tuple[Entry, ...] = ()
        self.data: EvaluationData | None = None
        self.is_between_steps = True
        self._optimizer_config, self._views = optimizer_config, views or {}
        self._gathers = gathers
        self._embedder: Embedder | None = None  # during a validation; no submodule, so no checkpoint holds it
        self._is_frozen = False
        self._rates: tuple[str, ...] = ()
        self._means = EpochMeans()
        if objective is not None and "bn" not in objective.features:
            # DDP waits for the gradient of each trainable parameter, and without a loss these never get one.
            network.freeze_normalization()

    def configure_optimizers(self) -> list[Optimizer]:
        """The network's optimizer, then those of losses that have their own."""
        assert self.objective is not None
        assert self._optimizer_config is not None
        own_optimizers = self.objective.own_optimizers()
        self._rates = ("train/lr", *(f"train/lr_{name}" for name in own_optimizers))
        optimizer = self._optimizer_config.build(self.network, self.objective.network_parameters())
        return [optimizer, *own_optimizers.values()]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Read older checkpoints too."""
        checkpoint["state_dict"] = with_current_names(checkpoint["state_dict"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store plain tensors, which every program reads."""
        checkpoint["state_dict"] = _contiguous(checkpoint["state_dict"])
        for state in checkpoint.get("optimizer_states", ()):
            state["state"] = {key: _contiguous(values) for key, values in state["state"].items()}

    def on_train_start(self) -> None:
        """Bring what a checkpoint restored into the layout of the network."""
        for optimizer in self._optimizers():
            match_parameters(optimizer.optimizer)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One P x K batch; after the last one of a group all optimizers step with the mean of its gradients."""
        optimizers = self._optimizers()
        position, size = self._place_in_group(batch_idx)
        if position == 0:
            self._set_rate(optimizers[0], batch_idx)
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
        report = self._objective_of(batch)
        self.manual_backward(report.total / size)
        self.is_between_steps = position + 1 == size
        if self.is_between_steps:
            self._step(optimizers)
            if self.average is not None:
                steps = self.current_epoch * int(self.trainer.num_training_batches) + batch_idx
                self.average.update(self.network, steps)
        self._log_training(report, batch_idx, len(batch.images))

    def on_train_epoch_start(self) -> None:
        """Begin the means of the epoch."""
        self._means = EpochMeans()

    def on_validation_epoch_start(self) -> None:
        """Make empty buffers, and a network ready to embed.

        All processes take rank 0's running statistics, the ones a checkpoint stores.
        """
        self.data = None  # two copies at once may not fit
        network = self.network if self.average is None else cast(ReidNetwork, self.average.network)
        self.evaluator.start()
        if dist.is_available() and dist.is_initialized():
            for buffer in network.buffers():
                dist.broadcast(buffer, 0)
        self._embedder = Embedder(network, self.device, self.evaluator.precision, flip=self.evaluator.flip)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Embed a batch of query and gallery images at every scale the protocols need."""
        assert self._embedder is not None
        for scale, buffer in self.evaluator.buffers.items():
            mask = buffer.mask(batch.rows)
            part = batch if mask is None else batch.part(mask)
            if len(part.rows):
                buffer.put(part.rows, self._embedder(self._pixels(part.at_scale(scale)), part.cameras))

    def on_validation_epoch_end(self) -> None:
        """Evaluate, and log the figures."""
        self._embedder = None
        self.entries, data = self.evaluator.finish(self.network.dim, self.device)
        self.data = data if self.objective is None else None
        first, *others = self.entries
        figures = {f"val/{name}": figure(first.result) for name, figure in FIGURES.items()}
        self.log_dict(figures, prog_bar=True, rank_zero_only=True)
        self.log_dict({f"val/mAP {entry.name}": entry.result.mAP for entry in others}, rank_zero_only=True)

    # A test is a validation of another data set.
    test_step = validation_step
    on_test_epoch_start = on_validation_epoch_start
    on_test_epoch_end = on_validation_epoch_end

    def _objective_of(self, batch: Batch) -> ObjectiveReport:
        assert self.objective is not None
        inputs = [self._pixels(view(batch), batch.erased) for view in self._views.values()]
        cameras = None if batch.cameras is None else batch.cameras.repeat(len(inputs))
        features = self.network(torch.cat(inputs) if len(inputs) > 1 else inputs[0], cameras)
        parts = zip(*(vectors.split(len(batch.images)) for vectors in features), strict=True)
        by_view = {view: Features(*part)._asdict() for view, part in zip(self._views, parts, strict=True)}
        labels = batch.labels
        if self._gathers and self.trainer.world_size > 1:
            by_view = {
                view: {feature: _Gather.apply(rows) for feature, rows in part.items()}
                for view, part in by_view.items()
            }
            labels = _Gather.apply(labels)
        report: ObjectiveReport = self.objective(by_view, labels)
        return report

    def _pixels(self, view: View, erased: Tensor | None = None) -> Tensor:
        pixels: Tensor = self.network_input(*view, erased)
        return pixels

    def _set_rate(self, optimizer: LightningOptimizer, batch_idx: int) -> None:
        assert self._optimizer_config is not None
        batches = int(self.trainer.num_training_batches)
        progress = self.current_epoch + batch_idx / batches
        rate = self._optimizer_config.rate(progress, batches)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get(RATE, 1.0)  # the optimizers of older checkpoints have no factor
        self._freeze(progress < self._optimizer_config.freeze.length(batches))

    def _freeze(self, is_frozen: bool) -> None:
        """Keep the trunk's normalizations as they are, or not; its gradients are dropped before a step."""
        if is_frozen != self._is_frozen:
            logger.info("the backbone is %s", "frozen" if is_frozen else "trained from now on")
        self._is_frozen = is_frozen
        for part in self.network.trunk:
            if part.training == is_frozen:
                part.train(not is_frozen)

    def _place_in_group(self, batch_idx: int) -> tuple[int, int]:
        """Position of a batch in its group, and the size of the group; the last one of an epoch may be smaller."""
        assert self._optimizer_config is not None
        size = self._optimizer_config.batches
        position = batch_idx % size
        return position, min(size, int(self.trainer.num_training_batches) - batch_idx + position)

    def _step(self, optimizers: list[LightningOptimizer]) -> None:
        """Clip the network's gradients and step; with scaled gradients change the scale once for all optimizers."""
        assert self._optimizer_config is not None
        if self._is_frozen:  # DDP waits for the gradients, so they are computed
            for part in self.network.trunk:
                for parameter in part.parameters():
                    parameter.grad = None
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if clip := self._optimizer_config.clip:
            network_optimizer = optimizers[0].optimizer
            if scaler is not None:
                scaler.unscale_(network_optimizer)
            nn.utils.clip_grad_norm_(self.trainer.precision_plugin.main_params(network_optimizer), clip)
        for optimizer in optimizers:
            optimizer.step()
        if scaler is not None:
            scaler.update()

    def _log_training(self, report: ObjectiveReport, batch_idx: int, num_images: int) -> None:
        """Log every SOLVER.LOG_PERIOD steps alone, and the means at the end of the epoch.

        Each value costs Lightning half a millisecond of the host, and a wait for the device if it lies there: so all
        of them are copied at once.
        """
        figures = {"loss": report.total.detach(), **report.terms, **report.statistics}
        values = {f"train/{name}": value for name, value in figures.items()}
        self._means.add(values, num_images)
        batches = int(self.trainer.num_training_batches)
        is_last = batch_idx + 1 == batches
        if (self.current_epoch * batches + batch_idx + 1) % self.trainer.log_every_n_steps == 0 or is_last:  # type: ignore[attr-defined]
            self.log_dict({f"{name}_step": value for name, value in on_host(values).items()}, prog_bar=True)
            self._log_rates()
        if is_last:  # the callbacks at the end of the epoch read them
            self.log_dict({f"{name}_epoch": mean for name, mean in self._means.values().items()})

    def _log_rates(self) -> None:
        for name, optimizer in zip(self._rates, self._optimizers(), strict=True):
            # A tensor stays on the CPU; Lightning would copy a plain number to the device and wait for it.
            group = optimizer.param_groups[0]
            self.log(name, torch.tensor(group["lr"] / group.get(RATE, 1.0)))

    def _optimizers(self) -> list[LightningOptimizer]:
        optimizers = self.optimizers()
        return cast(list[LightningOptimizer], optimizers if isinstance(optimizers, list) else [optimizers])


def _contiguous(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.contiguous() if isinstance(value, Tensor) else value for name, value in state.items()}


class _Gather(torch.autograd.Function):
    """The rows of all processes, (N, ...) -> (W * N, ...) in the order of their ranks.

    Each of the W processes computes the same loss of all rows, and DDP takes the mean of the gradients. That of the
    loss's own parameters is the same in all processes, and so is its mean. That of the network is a sum over the rows
    of all processes, of which each has its own: hence the factor W, and nothing has to be sent back.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:  # noqa: ANN401 (torch's own context type)
        ctx.size = len(rows)
        gathered = rows.new_empty(dist.get_world_size() * len(rows), *rows.shape[1:])
        dist.all_gather_into_tensor(gathered, rows.contiguous())
        return gathered

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        own = slice(ctx.size * dist.get_rank(), ctx.size * (dist.get_rank() + 1))
        return gradient[own] * dist.get_world_size()
