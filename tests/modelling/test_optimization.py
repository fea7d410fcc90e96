import math

import pytest
from torch import nn

from modelling.optimization import OPTIMIZERS, OptimizerConfig, cosine, multistep, with_warmup
from utils.errors import ReidError


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


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(ReidError, match=r"SOLVER\.OPTIMIZER_NAME must be .*got 'Lion'"):
        OptimizerConfig("Lion", 1, 0, 0, multistep([1], 1))
