import pytest
import torch

from benchmarks.plain_losses import plain_center
from losses.center import CenterLoss
from tests.losses.conftest import LossBatch, assert_equals_twin
from utils.errors import ReidError


def test_equals_plain_twin(batch: LossBatch) -> None:
    centers = torch.randn(10, 12, dtype=torch.float64)
    loss = CenterLoss(10, 12)
    assert_equals_twin(
        lambda x, c: torch.func.functional_call(loss, {"centers": c}, (x, batch.ids, batch.valid)),
        lambda x, c: plain_center(x, c, batch.ids, batch.valid),
        (batch.embeddings, centers),
    )


def test_scale_reaches_the_centres_and_nothing_else() -> None:
    plain, scaled = CenterLoss(3, 4), CenterLoss(3, 4, center_gradient_scale=2000.0)
    scaled.load_state_dict(plain.state_dict())
    ids = torch.tensor([0, 2, 2])
    left = torch.randn(3, 4, requires_grad=True)
    right = left.detach().clone().requires_grad_()
    first, second = plain(left, ids), scaled(right, ids)
    first.backward()
    second.backward()
    assert torch.equal(first, second)
    assert torch.equal(left.grad, right.grad)
    torch.testing.assert_close(scaled.centers.grad, 2000.0 * plain.centers.grad)
    assert scaled.centers.grad[1].abs().sum() == 0


def test_padding_may_carry_any_id() -> None:
    loss = CenterLoss(3, 4)
    ids = torch.tensor([0, -1])
    assert torch.isfinite(loss(torch.randn(2, 4), ids, torch.tensor([True, False])))


def test_state_dict_has_the_name_of_the_field() -> None:
    assert {name: tuple(value.shape) for name, value in CenterLoss(5, 7).state_dict().items()} == {"centers": (5, 7)}


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ReidError, match="num_ids and dim must be at least 1, got 0 and 4"):
        CenterLoss(0, 4)
    with pytest.raises(
        ReidError, match=r"center_gradient_scale must be a finite number > 0, got 0\.0; use 1 / weight"
    ):
        CenterLoss(3, 4, 0.0)
    with pytest.raises(ReidError, match="embeddings must have 4 columns, the dim of CenterLoss, got 5"):
        CenterLoss(3, 4)(torch.ones(1, 5), torch.zeros(1, dtype=torch.long))
