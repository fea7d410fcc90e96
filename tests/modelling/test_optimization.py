import copy
import math

import pytest
import torch
from torch import nn

from modelling.backbones import backbone
from modelling.network import ReidNetwork
from modelling.optimization import (
    OPTIMIZERS,
    OptimizerConfig,
    Span,
    Warmup,
    cosine,
    match_parameters,
    multistep,
)
from modelling.parameter_groups import RATE, GroupRules
from utils.errors import ReidError


class Body(nn.Module):
    """A backbone of two blocks."""

    out_channels = 4

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Sequential()
        self.base.stem = nn.Conv2d(3, 4, 1)
        self.base.blocks = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
        self.base.norm = nn.BatchNorm2d(4)


def test_multistep_multiplies_at_the_beginning_of_its_epochs() -> None:
    schedule = multistep([40, 70], 0.1)
    assert [schedule(e) for e in (0, 39.9, 40, 69.9, 70, 500)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_cosine_falls_from_one_to_its_floor() -> None:
    schedule = cosine(10, 20, 0.02)
    assert schedule(0) == schedule(10) == 1
    assert schedule(15) == pytest.approx(0.51)
    assert schedule(12) == pytest.approx(0.02 + 0.98 * 0.5 * (1 + math.cos(0.2 * math.pi)))
    assert schedule(20) == schedule(99) == pytest.approx(0.02)


def config(name: str = "Adam", **options: object) -> OptimizerConfig:
    return OptimizerConfig(name, 0.1, 0.01, 0.8, multistep([40], 0.1), **options)


def test_warm_up_rises_in_a_line_and_leaves_the_rest_alone() -> None:
    slow = config(warmup=Warmup(Span(10), 0.01))
    assert [slow.rate(e, 7) / 0.1 for e in (0, 5, 10, 39, 40)] == pytest.approx([0.01, 0.505, 1, 1, 0.1])
    in_steps = config(warmup=Warmup(Span(99, 20), 0.5))  # 20 steps are 4 epochs of 5
    assert [in_steps.rate(e, 5) / 0.1 for e in (0, 1, 2, 4)] == pytest.approx([0.5, 0.625, 0.75, 1])
    assert config().rate(0, 5) == 0.1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_rate_and_decay_from_its_arguments(name: str) -> None:
    layer, network = nn.Linear(2, 2), ReidNetwork(Body()).requires_grad_(False)
    layer.bias.requires_grad_(False)
    optimizer = OptimizerConfig(name, 0.123, 0.045, 0.8, multistep([1], 1)).build(network, layer.parameters())
    (group,) = optimizer.param_groups
    assert type(optimizer).__name__ == name
    assert (group["lr"], group["weight_decay"]) == (0.123, 0.045)
    assert group["params"] == [layer.weight]
    if name == "SGD":
        assert group["momentum"] == 0.8


def test_a_restored_state_takes_the_layout_of_the_parameters() -> None:
    layers = [nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    network = ReidNetwork(Body()).requires_grad_(False)
    optimizers = [config().build(network, layer.parameters()) for layer in layers]

    def step(index: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in layers[index].parameters():
            parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape, generator=generator))
        optimizers[index].step()

    step(0, 1), step(1, 1)
    state = copy.deepcopy(optimizers[1].state_dict())
    for values in state["state"].values():  # as an older checkpoint holds it
        values.update({name: value.contiguous() for name, value in values.items()})
    state["param_groups"][0]["fused"] = None
    optimizers[1] = config().build(network, layers[1].parameters())
    optimizers[1].load_state_dict(state)
    match_parameters(optimizers[1])
    assert optimizers[1].param_groups[0]["fused"]
    step(0, 2), step(1, 2)
    assert torch.equal(layers[0].weight, layers[1].weight)


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(ReidError, match=r"SOLVER\.OPTIMIZER_NAME must be .*got 'Lion'"):
        OptimizerConfig("Lion", 1, 0, 0, multistep([1], 1))


def groups(rules: GroupRules) -> dict[tuple[float, float], set[str]]:
    """Rate factor and decay -> names of the parameters of a small network; ``classifier`` is another one."""
    network, classifier = ReidNetwork(Body()), nn.Parameter(torch.ones(2, 4))
    names = {id(value): name for name, value in network.named_parameters()} | {id(classifier): "classifier"}
    optimizer = config(rules=rules).build(network, [classifier])
    assert all(group["lr"] == 0.1 for group in optimizer.param_groups)
    return {
        (round(group[RATE], 6), group["weight_decay"]): {names[id(value)] for value in group["params"]}
        for group in optimizer.param_groups
    }


def test_without_rules_there_is_one_group() -> None:
    ((key, names),) = groups(GroupRules()).items()
    assert key == (1.0, 0.01)
    assert len(names) == 10
    assert "head.bn.bias" not in names


def test_biases_and_normalizations_have_rules_of_their_own() -> None:
    result = groups(GroupRules(bias_factor=2.0, decays_vectors=False))
    matrices = {f"backbone.base.{name}.weight" for name in ("stem", "blocks.0", "blocks.1")}
    biases = {f"backbone.base.{name}.bias" for name in ("stem", "blocks.0", "blocks.1", "norm")}
    assert result == {
        (1.0, 0.01): matrices | {"classifier"},
        (1.0, 0.0): {"backbone.base.norm.weight", "head.bn.weight"},
        (2.0, 0.0): biases,
    }


def test_lower_layers_learn_more_slowly() -> None:
    result = groups(GroupRules(layer_decay=0.5))
    assert {factor: len(names) for (factor, _), names in result.items()} == {0.25: 2, 0.5: 2, 1.0: 6}
    assert {"backbone.base.stem.weight", "backbone.base.stem.bias"} in result.values()


def test_a_layer_decay_needs_blocks() -> None:
    body = Body()
    del body.base.blocks
    with pytest.raises(ReidError, match=r"SOLVER\.LAYER_DECAY 0\.5 needs a network of numbered blocks"):
        config(rules=GroupRules(layer_decay=0.5)).build(ReidNetwork(body), [])


def test_real_networks_have_as_many_rates_as_blocks() -> None:
    networks = (
        ("resnet18", 8),
        ("resnet50", 16),
        ("clip_resnet50", 16),
        ("swin_tiny_solider", 4),
        ("osnet_x0_25", 8),
    )
    for name, blocks in networks:
        optimizer = config(rules=GroupRules(layer_decay=0.9)).build(
            ReidNetwork(backbone(name).build(input_size=(64, 32))), []
        )
        rates = sorted(group[RATE] for group in optimizer.param_groups)
        assert rates == pytest.approx([0.9**power for power in range(blocks, -1, -1)])


def test_layers_behind_the_last_block_have_the_full_rate() -> None:
    """OSNet's conv5 and the bn2 of an EfficientNet are no stem, whatever their names resemble."""
    for name, last in (("osnet_x0_25", "base.conv5.bn.weight"), ("timm:tf_efficientnet_lite0", "base.bn2.weight")):
        network = ReidNetwork(backbone(name).build(input_size=(64, 32)))
        optimizer = config(rules=GroupRules(layer_decay=0.9)).build(network, [])
        full = next(group["params"] for group in optimizer.param_groups if group[RATE] == 1)
        assert any(parameter is network.backbone.get_parameter(last) for parameter in full), name
