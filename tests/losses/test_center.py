import pytest
import torch

from losses.center import CenterLoss
from tests.losses.conftest import LossBatch, assert_equals_twin
from tests.reference.losses import plain_center
from utils.errors import ReidError


def test_equals_plain_twin(batch: LossBatch) -> None:
    centers = torch.randn(10, 12, dtype=torch.float64)
    loss = CenterLoss(10, 12)
    assert_equals_twin(
        lambda x, c: torch.func.functional_call(loss, {"centers": c}, (x, batch.ids)),
        lambda x, c: plain_center(x, c, batch.ids),
        (batch.embeddings, centers),
    )


def test_own_optimizer_is_plain_sgd_of_the_centers() -> None:
    loss = CenterLoss(3, 4, lr=0.25)
    (group,) = loss.own_optimizer().param_groups
    assert group["params"] == [loss.centers]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.25, 0, 0)
    assert CenterLoss(3, 4).own_optimizer().param_groups[0]["lr"] == 0.5


def test_state_dict_has_the_name_of_the_field() -> None:
    assert {name: tuple(value.shape) for name, value in CenterLoss(5, 7).state_dict().items()} == {"centers": (5, 7)}


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ReidError, match="num_ids and dim must be at least 1, got 0 and 4"):
        CenterLoss(0, 4)
    with pytest.raises(
        ReidError, match="embeddings must have 4 columns, the dim of this loss, got 5; build the loss"
    ):
        CenterLoss(3, 4)(torch.ones(1, 5), torch.zeros(1, dtype=torch.long))
