"""The configurations of published recipes: what they build, and at which rates they train."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from configs import read_config
from engine.builders.model import build_network
from engine.builders.objective import build_objective
from engine.builders.trainer import build_optimizer_config
from engine.methods import BASELINE
from engine.settings import Settings
from modelling.parameter_groups import RATE

FOLDER = Path(__file__).resolve().parents[2] / "configs"
BATCHES = 200  # in an epoch, as on Market-1501
TRIPLET, WEIGHTED = ["identity", "triplet"], ["identity", "weighted_triplet"]
CENTER = [*TRIPLET, "center"]


def steps(base: float, first: int, second: int, warmup: float, start: float) -> Callable[[float], float]:
    """A tenth at two epochs, after a linear rise."""

    def rate(epoch: float) -> float:
        rise = start + (1 - start) * epoch / warmup if epoch < warmup else 1
        return base * rise * 0.1 ** ((epoch >= first) + (epoch >= second))

    return rate


def falling(
    base: float, begin: float, end: float, last: float, warmup: float, start: float
) -> Callable[[float], float]:
    """Flat, then half a cosine, after a linear rise."""

    def rate(epoch: float) -> float:
        rise = start + (1 - start) * epoch / warmup if epoch < warmup else 1
        progress = min(max((epoch - begin) / (end - begin), 0), 1)
        return rise * (last + (base - last) * (1 + math.cos(math.pi * progress)) / 2)

    return rate


class Recipe(NamedTuple):
    rate: Callable[[float], float]
    terms: list[str] = TRIPLET
    frozen: float = 0.0
    bias: float = 1.0
    classifier: str = "linear"
    parts: int = 1
    feature: str = "bn"
    instances: int = 4


SBS = Recipe(falling(3.5e-4, 30, 60, 7e-7, 10, 0.1), frozen=5, classifier="circle", instances=16)
VIT = Recipe(falling(8e-3, 5, 120, 1.6e-5, 5, 0.01), bias=2, feature="raw")
PRETRAINED = Recipe(falling(4e-4, 20, 120, 8e-7, 20, 0.01), bias=2, feature="raw")
RECIPES = {
    "bot_resnet50": Recipe(steps(3.5e-4, 40, 90, 10, 0.1)),
    "agw_resnet50": Recipe(steps(3.5e-4, 40, 90, 10, 0.1), WEIGHTED),
    "sbs_resnet50": SBS,
    "sbs_resnet50_ibn_a": SBS,
    "mgn_resnet50_ibn_a": SBS._replace(parts=8),
    "lup_mgn_resnet50": SBS._replace(rate=falling(3.5e-4, 30, 60, 7.7e-7, 10, 0.01), frozen=10, parts=8),
    "vit_base": VIT,
    "transreid_vit_base": VIT._replace(parts=5),
    "solider_swin_tiny": PRETRAINED._replace(rate=falling(8e-4, 20, 120, 1.6e-6, 20, 0.01)),
    "solider_swin_small": PRETRAINED._replace(rate=falling(2e-4, 20, 120, 4e-7, 20, 0.01)),
    "solider_swin_base": PRETRAINED._replace(rate=falling(2e-4, 20, 120, 4e-7, 20, 0.01)),
    "personvit_small": PRETRAINED,
    "personvit_base": PRETRAINED,
    "clip_reid_vit_base": Recipe(steps(5e-6, 30, 50, 10, 0.1), bias=2, parts=2, feature="raw"),
    "osnet_x1_0": Recipe(steps(1.5e-3, 60, 120, 0, 1), ["identity"], frozen=10),
    "osnet_x0_25": Recipe(falling(7e-4, 4, 8, 7.7e-7, 1, 0.01), CENTER, feature="raw"),
    "efficientnet_lite0": Recipe(falling(1e-3, 1, 12, 7.7e-7, 1, 0.01)),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_what_and_how_its_authors_do(name: str) -> None:
    recipe = RECIPES[name]
    small = {"INPUT.SIZE_TRAIN": [96, 48], "INPUT.SIZE_TEST": [96, 48], "MODEL.PRETRAINED": False}
    cfg = Settings(read_config(FOLDER / f"{name}.yml"), small).for_training(BASELINE, None, resume=False)
    assert (cfg.MODEL.RETRIEVAL_FEATURE, cfg.SOLVER.CLASSIFIER) == (recipe.feature, recipe.classifier)
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE) == (64, recipe.instances)
    assert cfg.SOLVER.TERMS == recipe.terms
    network, config = build_network(cfg).train(), build_optimizer_config(cfg)
    for epoch in (0, 1.5, 5, 9.9, 10, 20, 29.9, 30, 39.9, 40, 45, 59.9, 60, 89.9, 90, 119, 120, 149):
        if epoch < cfg.SOLVER.MAX_EPOCHS:
            assert config.rate(epoch, BATCHES) == pytest.approx(recipe.rate(epoch), rel=1e-6), epoch
    assert config.freeze.length(BATCHES) == recipe.frozen
    objective = build_objective(cfg, 3, network.head)
    optimizer = config.build(network, objective.network_parameters())
    assert {group[RATE] for group in optimizer.param_groups} == {1.0, recipe.bias}
    classifiers = [value for key, value in objective.named_parameters() if "classifier" in key]
    assert len(classifiers) == recipe.parts
    cameras = torch.tensor([0, 1, 2, 0, 1, 2]) if network.num_cameras else None
    features = network(torch.randn(6, 3, 96, 48), cameras)
    total = objective({"main": features._asdict()}, torch.tensor([0, 0, 1, 1, 2, 2])).total
    total.backward()
    assert bool(total.isfinite())
    assert all(value.grad is not None for value in classifiers)


def test_every_configuration_is_tested_here_or_elsewhere() -> None:
    others = {"256_resnet50", "320_resnet50_ibn_a", "demo"}
    assert {path.stem for path in FOLDER.glob("*.yml")} == {*RECIPES, *others}
