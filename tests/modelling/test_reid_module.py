"""A step of training against plain loops: accumulation, scaled gradients, and nothing that waits for the device."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from datasets.batch import Batch
from engine.builders.data import build_input
from engine.builders.model import build_network
from engine.builders.objective import build_objective, build_views
from engine.builders.trainer import OneScale, build_optimizer_config, build_trainer
from engine.cli import parse
from engine.methods import BASELINE, METHODS, Method
from modelling.evaluator import Evaluator
from modelling.reid_module import ReidModule
from tests.support import NoWaiting, run_arguments

IDS = 4


class Run:
    """A module, its trainer and the batches of an epoch."""

    def __init__(self, folder: Path, *values: str, method: Method = BASELINE, batches: int = 3) -> None:
        arguments = [*run_arguments(folder, folder), "SOLVER.BASE_LR", "0.01", *values]
        self.cfg = parse(arguments).for_training(method, None, resume=False)
        torch.manual_seed(0)
        network = build_network(self.cfg).to(memory_format=torch.channels_last)
        self.module = ReidModule(
            network,
            build_input(self.cfg),
            Evaluator((), [], []),
            build_objective(self.cfg, IDS, network.head),
            build_optimizer_config(self.cfg),
            build_views(self.cfg, method.name, low_resolution=method.low_resolution_view),
        )
        self.batches = [_batch(seed) for seed in range(batches)]

    def fit(self, *callbacks: Callback, path: Path | None = None, plugin: OneScale | None = None) -> Trainer:
        """Train for SOLVER.MAX_EPOCHS epochs, from a checkpoint if there is one."""
        trainer = build_trainer(self.cfg, callbacks=list(callbacks))
        if plugin is not None:
            trainer.strategy.precision_plugin = plugin
        trainer.fit(self.module, DataLoader(self.batches, batch_size=None), ckpt_path=path, weights_only=True)
        return trainer

    def plain_epoch(
        self, groups: Sequence[Iterable[Batch]], step: Callable[[list[Any], Sequence[Tensor]], None]
    ) -> None:
        """The first epoch as a plain loop: ``step`` gets the optimizers and the losses of a group."""
        module, config = self.module.train(), build_optimizer_config(self.cfg)
        optimizers: list[Any] = module.configure_optimizers()
        start = 0
        for group in groups:
            for settings in optimizers[0].param_groups:
                settings["lr"] = config.rate(start / len(self.batches), len(self.batches))
            for optimizer in optimizers:
                optimizer.zero_grad()
            losses = [module._objective_of(batch).total for batch in group]
            step(optimizers, losses)
            start += len(losses)

    def weights(self) -> dict[str, Tensor]:
        """All tensors of network and objective."""
        return self.module.state_dict()


def _batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (8, 3, 32, 16), generator=generator, dtype=torch.uint8)
    return Batch(
        images,
        torch.arange(8) // 2,
        torch.arange(8),
        torch.tensor([[0, 0, 0, 0], [3, 2, 9, 5]] * 4),
        torch.ones(8, dtype=torch.int64),
        None,
        {},
    )


def test_accumulated_gradients_are_those_of_the_mean(tmp_path: Path) -> None:
    values = ("SOLVER.ACCUMULATE_BATCHES", "2", "SOLVER.MAX_EPOCHS", "1", "SOLVER.OPTIMIZER_NAME", "SGD")
    run, twin = Run(tmp_path, *values), Run(tmp_path, *values)

    def step(optimizers: list[Any], losses: Sequence[Tensor]) -> None:
        torch.stack(list(losses)).mean().backward()
        for optimizer in optimizers:
            optimizer.step()

    seen: list[bool] = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer: object, module: ReidModule, *_: object) -> None:
            seen.append(module.is_between_steps)

    run.fit(Watch())
    first, second, third = twin.batches
    twin.plain_epoch([(first, second), (third,)], step)
    assert seen == [False, True, True]
    for name, value in run.weights().items():
        torch.testing.assert_close(value, twin.weights()[name], rtol=1e-5, atol=1e-6, msg=name)
    gradients = zip(run.module.parameters(), twin.module.parameters(), strict=True)
    assert all((one.grad - other.grad).abs().max() < 1e-6 for one, other in gradients if one.grad is not None)


def _overflow_once(network: nn.Module) -> None:
    """Let the gradient of one parameter overflow in the second step."""
    calls = iter([1.0, torch.inf])
    network.head.bn.weight.register_hook(lambda gradient: gradient * next(calls, 1.0))  # type: ignore[union-attr]


def _scaler() -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=16.0, growth_interval=2)


@pytest.mark.parametrize("clip", ["0.0", "0.5"])
def test_scaled_gradients_are_those_of_a_plain_loop(clip: str, tmp_path: Path) -> None:
    values = ("SOLVER.GRADIENT_CLIP_VAL", clip, "SOLVER.MAX_EPOCHS", "1")
    run, twin = Run(tmp_path, *values, batches=5), Run(tmp_path, *values, batches=5)
    scaler = _scaler()

    def step(optimizers: list[Any], losses: Sequence[Tensor]) -> None:
        scaler.scale(losses[0]).backward()
        if float(clip):
            scaler.unscale_(optimizers[0])
            nn.utils.clip_grad_norm_(optimizers[0].param_groups[0]["params"], float(clip))
        for optimizer in optimizers:
            scaler.step(optimizer)
        scaler.update()

    for each in (run, twin):
        _overflow_once(each.module.network)
    plugin = OneScale("16-mixed", "cpu", _scaler())
    run.fit(plugin=plugin)
    with torch.autocast("cpu", torch.float16, cache_enabled=False):
        twin.plain_epoch([[batch] for batch in twin.batches], step)
    assert len(twin.module.configure_optimizers()) == 2  # the centers have their own
    assert plugin.state_dict() == scaler.state_dict()
    assert scaler.get_scale() == 16.0  # halved by the overflow, doubled after two good steps
    for name, value in run.weights().items():
        assert torch.equal(value, twin.weights()[name]), name


def test_scale_and_layout_resume_exactly(tmp_path: Path) -> None:
    straight = Run(tmp_path, "SOLVER.MAX_EPOCHS", "2")
    expected = OneScale("16-mixed", "cpu", _scaler())
    straight.fit(plugin=expected)
    half = Run(tmp_path, "SOLVER.MAX_EPOCHS", "1")
    path = tmp_path / "half.ckpt"
    half.fit(plugin=OneScale("16-mixed", "cpu", _scaler())).save_checkpoint(path)
    content = torch.load(path, weights_only=True)
    moments = [values["exp_avg"] for values in content["optimizer_states"][0]["state"].values()]
    assert all(tensor.is_contiguous() for tensor in [*content["state_dict"].values(), *moments])
    assert content["OneScale"]["scale"] == 32.0
    rest = Run(tmp_path, "SOLVER.MAX_EPOCHS", "2")
    plugin = OneScale("16-mixed", "cpu", _scaler())
    rest.fit(path=path, plugin=plugin)
    assert plugin.state_dict() == expected.state_dict()
    for name, value in rest.weights().items():
        assert torch.equal(value, straight.weights()[name]), name
    convolutions = [module for module in rest.module.modules() if isinstance(module, nn.Conv2d)]
    assert all(layer.weight.is_contiguous(memory_format=torch.channels_last) for layer in convolutions)


class _Steps(Callback):
    """Calls ``begin`` before each step but the first two and the last one, which logs, and ``end`` after it."""

    def __init__(self, begin: Callable[[], object], end: Callable[[], object]) -> None:
        self.begin, self.end, self.steps = begin, end, 0

    def on_train_batch_start(self, trainer: Trainer, module: object, batch: object, batch_idx: int) -> None:
        if 2 <= batch_idx < int(trainer.num_training_batches) - 1:
            self.begin()

    def on_train_batch_end(
        self, trainer: Trainer, module: object, out: object, batch: object, batch_idx: int
    ) -> None:
        if 2 <= batch_idx < int(trainer.num_training_batches) - 1:
            self.end()
            self.steps += 1


STEP = ("SOLVER.MAX_EPOCHS", "1", "SOLVER.GRADIENT_CLIP_VAL", "1.0", "SOLVER.LOG_PERIOD", "50", "INPUT.SCALE", "2")


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_step_never_waits_for_the_device(method: Method, tmp_path: Path) -> None:
    mode = NoWaiting()
    steps = _Steps(mode.__enter__, lambda: mode.__exit__(None, None, None))
    Run(tmp_path, *STEP, method=method, batches=4).fit(steps)
    assert steps.steps == 1


def test_the_step_test_can_fail(tmp_path: Path) -> None:
    mode = NoWaiting()
    run = Run(tmp_path, *STEP, batches=4)
    run.module.network.register_forward_hook(lambda _, __, features: features if features.bn.sum().item() else None)
    try:
        with pytest.raises(AssertionError, match="waits for the device"):
            run.fit(_Steps(mode.__enter__, lambda: mode.__exit__(None, None, None)))
    finally:
        mode.__exit__(None, None, None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_cuda_steps_do_not_synchronize(method: Method, precision: str, tmp_path: Path) -> None:
    values = (*STEP, "TRAINER.ACCELERATOR", "cuda", "TRAINER.PRECISION", precision)
    steps = _Steps(lambda: torch.cuda.set_sync_debug_mode("error"), lambda: torch.cuda.set_sync_debug_mode("default"))
    try:
        run = Run(tmp_path, *values, method=method, batches=6)
        run.fit(steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert steps.steps == 4
    assert all(torch.isfinite(value).all() for value in run.weights().values())
