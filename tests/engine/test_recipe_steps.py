"""Each configuration trains step by step as a plain training by the numbers of its file."""

import math
import re
from pathlib import Path

import pytest
import torch
import yaml
from pytorch_lightning import Callback, Trainer
from torch.utils.data import DataLoader

from configs import read_config
from datasets.batch import Batch
from engine.builders.data import build_input
from engine.builders.model import build_network
from engine.builders.objective import build_objective, build_views
from engine.builders.trainer import build_optimizer_config, build_trainer
from engine.methods import BASELINE
from engine.settings import Settings
from modelling.evaluator import Evaluator
from modelling.network import ReidNetwork
from modelling.parameter_groups import RATE
from modelling.reid_module import ReidModule
from tests.reference.plain_training import PlainTraining, is_trunk
from tests.reference.recipes import Recipe, recipe_of
from tests.support import calm_non_local_blocks

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yml"))
MARKET = 200  # steps in an epoch of Market-1501, by which the recipes count their iterations
ITERATIONS = ("SOLVER.WARMUP_ITERATIONS", "SOLVER.FREEZE_ITERATIONS")
BATCHES = 2  # steps in an epoch here
IDS, IMAGES = 3, 3
SMALLER = {  # network and head; test_recipe_configs.py builds the networks of the recipes
    ("vit_small", "bnneck"): "vit_tiny",
    ("vit_base", "bnneck"): "vit_tiny",
    ("vit_base", "jpm"): "vit_tiny",
    ("swin_small_solider", "bnneck"): "swin_tiny_solider",
    ("swin_base_solider", "bnneck"): "swin_tiny_solider",
    ("resnet50", "mgn_norm"): "resnet18",
    ("resnet50_ibn_a", "mgn"): "resnet18_ibn_a",
}
of_each_file = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


@of_each_file
def test_all_steps_of_a_training_have_the_rate_of_the_recipe(path: Path) -> None:
    recipe, config = recipe_of(path), build_optimizer_config(Settings(read_config(path), {}).cfg)
    for step in range(recipe.max_epochs * MARKET):
        progress = step // MARKET + step % MARKET / MARKET
        assert math.isclose(config.rate(progress, MARKET), recipe.rate(step, MARKET), rel_tol=1e-6), step
        assert (progress < config.freeze.length(MARKET)) == (step < recipe.frozen_steps(MARKET)), step


class Comparison(Callback):
    """Lets a training run through a few of its epochs, and takes each of their steps in a plain training, too.

    Both begin each step with the same weights and change them by the same gradients, which have to agree before:
    their last digits differ, a ReLU turns that into more, and Adam makes a whole step of what should be zero.
    """

    def __init__(self, plain: PlainTraining, epochs: list[int]) -> None:
        self.plain, self.epochs = plain, epochs
        self.steps: list[int] = []

    def on_train_epoch_start(self, trainer: Trainer, module: ReidModule) -> None:
        progress = trainer.fit_loop.epoch_progress.current
        progress.completed = progress.processed = self.epochs.pop(0)

    def on_train_epoch_end(self, trainer: Trainer, module: ReidModule) -> None:
        trainer.should_stop = not self.epochs

    def on_train_batch_start(self, trainer: Trainer, module: ReidModule, batch: Batch, batch_idx: int) -> None:
        torch.manual_seed(batch_idx)  # of drop path

    def on_train_batch_end(
        self, trainer: Trainer, module: ReidModule, out: object, batch: Batch, batch_idx: int
    ) -> None:
        torch.manual_seed(batch_idx)
        step = trainer.current_epoch * BATCHES + batch_idx
        losses = self.plain.backward(batch, step)
        figures = {name: float(trainer.callback_metrics[f"train/{name}_step"]) for name in losses}
        assert figures == pytest.approx(losses, rel=2e-5)
        self.take_gradients(module)
        self.plain.update(step)
        self.compare_groups(trainer, module)
        self.take_weights(module, step)
        self.steps.append(step)

    def take_gradients(self, module: ReidModule) -> None:
        """Gradients agree, up to the rounding of the sums that they come from."""
        parameters = {name: value for name, value in module.named_parameters() if value.requires_grad}
        assert parameters.keys() == self.plain.parameters.keys()
        plain = {name: value.grad for name, value in self.plain.parameters.items() if value.grad is not None}
        assert {name for name, value in parameters.items() if value.grad is not None} == plain.keys()
        total = torch.stack([gradient.norm() for gradient in plain.values()]).norm()
        for name, gradient in plain.items():
            difference = (parameters[name].grad - gradient).norm()
            assert difference <= 1e-4 * gradient.norm() + 1e-7 * total, name
            gradient.copy_(parameters[name].grad)

    def compare_groups(self, trainer: Trainer, module: ReidModule) -> None:
        """Each parameter has the rate and the decay of the recipe."""
        names = {id(value): name for name, value in module.named_parameters()}
        groups = trainer.optimizers[0].param_groups
        assert {names[id(value)] for group in groups for value in group["params"]} == self.plain.groups.keys()
        for group in groups:
            for value in group["params"]:
                plain = self.plain.groups[names[id(value)]]
                assert (group["lr"], group["weight_decay"]) == pytest.approx((plain["lr"], plain["weight_decay"]))
                assert group[RATE] == pytest.approx(plain["factor"])

    def take_weights(self, module: ReidModule, step: int) -> None:
        """Weights agree within a thousandth of the rate, or the rounding of a float32; statistics alike."""
        rate, state = self.plain.recipe.rate(step, BATCHES), module.state_dict()
        statistics = {f"network.{name}": value for name, value in self.plain.network.named_buffers()}
        assert (module.average is None) == (self.plain.average is None)
        average = {} if self.plain.average is None else self.plain.average.state_dict(prefix="average.network.")
        with torch.no_grad():
            for name, value in self.plain.parameters.items():
                difference, rounding = (state[name] - value).abs_(), 2.4e-7 * value.abs()
                assert bool((difference <= rounding.add_(1e-3 * rate)).all()), name
                value.copy_(state[name])
            for name, value in (statistics | average).items():
                if name in state:
                    torch.testing.assert_close(state[name], value, rtol=1e-5, atol=1e-6, msg=name)
                    value.copy_(state[name])


def random_batch(seed: int, cameras: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.arange(IDS * IMAGES)
    images = torch.randint(256, (len(rows), 3, 64, 16), generator=generator, dtype=torch.uint8)
    nothing_erased = torch.zeros(len(rows), 4, dtype=torch.int64)
    return Batch(
        images, rows // IMAGES, rows, nothing_erased, torch.ones_like(rows), None, {}, rows % max(cameras, 1)
    )


def small_training(path: Path) -> tuple[ReidModule, Trainer, Comparison]:
    """The training of a file with a small network, small images and short epochs, and the plain one beside it."""
    file, recipe = read_config(path), recipe_of(path)
    for key in ("warmup_iterations", "freeze_iterations"):
        recipe = recipe._replace(**{key: getattr(recipe, key) * BATCHES // MARKET})
    values = {
        **{"INPUT.SIZE_TRAIN": [64, 16], "INPUT.SIZE_TEST": [64, 16], "MODEL.PRETRAINED": False},
        **{"TRAINER.ACCELERATOR": "cpu", "TRAINER.PRECISION": "32-true", "TRAINER.LAYOUT": "contiguous"},
        **{key: int(file.get(key, 0)) * BATCHES // MARKET for key in ITERATIONS},
        **{"SOLVER.LOG_PERIOD": 1, "MODEL.NAME": SMALLER.get((recipe.network, recipe.head), recipe.network)},
    }
    cfg = Settings(file, values).for_training(BASELINE, None, resume=False)
    network = small_network(build_network(cfg))
    objective = build_objective(cfg, IDS, network.head)
    views = build_views(cfg, BASELINE.name, low_resolution=False)
    module = ReidModule(
        network, build_input(cfg), Evaluator((), [], []), objective, build_optimizer_config(cfg), views
    )
    learned = {f"objective.{name}": value for name, value in objective.named_parameters()}
    comparison = Comparison(PlainTraining(network, learned, recipe, BATCHES), epochs_of(recipe))
    return module, build_trainer(cfg, callbacks=[comparison]), comparison


def small_network(network: ReidNetwork) -> ReidNetwork:
    """The network with one of each row of equal blocks, so that all of this takes half a minute."""
    for name, blocks in list(network.named_modules()):
        if re.search(r"(layer\d|resblocks|stages\.\d\.blocks)$", name):
            for index in [child for child, _ in blocks.named_children() if child.isdigit()][1:]:
                delattr(blocks, index)
    calm_non_local_blocks(network)
    return network


def epochs_of(recipe: Recipe) -> list[int]:
    """The last epoch of the frozen backbone, or of the warm-up, and the next one."""
    end = math.ceil((recipe.frozen_steps(BATCHES) or recipe.warmup_steps(BATCHES)) / BATCHES)
    return [max(end, 1) - 1, max(end, 1)]


def compare_steps(path: Path) -> None:
    """Train beside a plain training; what is frozen stays as it is, and moves afterwards."""
    module, trainer, comparison = small_training(path)
    plain = comparison.plain
    before = {name: value.clone() for name, value in module.state_dict().items() if is_trunk(name)}
    unchanged: list[set[str]] = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer: Trainer, module: ReidModule, *_: object) -> None:
            state = module.state_dict()
            unchanged.append({name for name, value in before.items() if torch.equal(value, state[name])})

    trainer.callbacks.append(Watch())
    batches = [random_batch(seed, module.network.num_cameras) for seed in range(BATCHES)]
    trainer.fit(module, DataLoader(batches, batch_size=None))
    frozen = [plain.is_frozen(step) for step in comparison.steps]
    assert len(frozen) == 2 * BATCHES
    assert [names == before.keys() for names in unchanged] == frozen
    if any(frozen):
        moving = {name for name in before if name in plain.parameters or "running" in name}
        assert not unchanged[-1] & moving


@of_each_file
def test_steps_are_those_of_a_plain_training(path: Path) -> None:
    compare_steps(path)


def test_steps_with_the_parts_that_no_file_has(tmp_path: Path) -> None:
    values = {
        **{"TERMS": ["identity", "circle", "multi_similarity", "weighted_triplet"], "CIRCLE_WEIGHT": 0.1},
        **{"CLASSIFIER": "arcface", "CLASSIFIER_SCALE": 16.0, "OPTIMIZER_NAME": "AdamW", "DECAY_VECTORS": False},
        **{"LAYER_DECAY": 0.9, "AVERAGE_DECAY": 0.9, "GRADIENT_CLIP_VAL": 1.0, "WARMUP_EPOCHS": 1, "MAX_EPOCHS": 3},
        **{"LR_SCHEDULER_NAME": "cosine_annealing", "FREEZE_EPOCHS": 0.5, "METRIC_FEATURE": "bn"},
    }
    path = tmp_path / "all.yml"
    path.write_text(yaml.safe_dump({"MODEL": {"NAME": "resnet18"}, "SOLVER": values}))
    compare_steps(path)
