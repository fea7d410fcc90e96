import copy
import math

import pytest
import torch
from torch import nn

from modelling.optimization import (
    OPTIMIZERS,
    OptimizerConfig,
    cosine,
    match_parameters,
    multistep,
    with_warmup,
)
from utils.errors import ReidError

OPTIMIZER = OptimizerConfig("Adam", 0.1, 0.01, 0, multistep([9], 1))


def test_multistep_multiplies_at_the_beginning_of_its_epochs() -> None:
    schedule = multistep([40, 70], 0.1)
    assert [schedule(e) for e in (0, 39.9, 40, 69.9, 70, 500)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_cosine_falls_from_one_to_its_floor() -> None:
    schedule = cosine(10, 20, 0.02)
    assert schedule(0) == schedule(10) == 1
    assert schedule(15) == pytest.approx(0.51)
    assert schedule(12) == pytest.approx(0.02 + 0.98 * 0.5 * (1 + math.cos(0.2 * math.pi)))
    assert schedule(20) == schedule(99) == pytest.approx(0.02)


def test_warm_up_rises_in_a_line_and_leaves_the_rest_alone() -> None:
    schedule = with_warmup(multistep([40], 0.1), 10, 0.01)
    assert [schedule(e) for e in (0, 5, 10, 39, 40)] == pytest.approx([0.01, 0.505, 1, 1, 0.1])
    assert with_warmup(multistep([40], 0.1), 0, 0.01)(0) == 1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_rate_and_decay_from_its_arguments(name: str) -> None:
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    optimizer = OptimizerConfig(name, 0.123, 0.045, 0.8, multistep([1], 1)).build(layer.parameters())
    (group,) = optimizer.param_groups
    assert type(optimizer).__name__ == name
    assert (group["lr"], group["weight_decay"]) == (0.123, 0.045)
    assert group["params"] == [layer.weight]
    if name == "SGD":
        assert group["momentum"] == 0.8


def test_a_restored_state_takes_the_layout_of_the_parameters() -> None:
    layers = [nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    optimizers = [OPTIMIZER.build(layer.parameters()) for layer in layers]

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
    optimizers[1] = OPTIMIZER.build(layers[1].parameters())
    optimizers[1].load_state_dict(state)
    match_parameters(optimizers[1])
    assert optimizers[1].param_groups[0]["fused"]
    step(0, 2), step(1, 2)
    assert torch.equal(layers[0].weight, layers[1].weight)


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(ReidError, match=r"SOLVER\.OPTIMIZER_NAME must be .*got 'Lion'"):
        OptimizerConfig("Lion", 1, 0, 0, multistep([1], 1))
