import pytest
import torch

from losses.identity import IdentityLoss
from losses.parts import Part, PartLoss, cut
from losses.similarity import PairwiseCircleLoss
from losses.triplet import BatchHardTripletLoss

IDS = torch.tensor([0, 0, 1, 1, 2, 2])
PARTS = cut([4, 4, 8], [0.5, 0.25, 1.0])


def vectors() -> torch.Tensor:
    return torch.randn(6, 16, generator=torch.Generator().manual_seed(0))


def test_parts_lie_one_after_another() -> None:
    assert PARTS == (Part(0, 4, 0.5), Part(4, 8, 0.25), Part(8, 16, 1.0))


def test_the_loss_is_the_weighted_sum_over_the_parts() -> None:
    loss, plain, x = PartLoss(lambda _: BatchHardTripletLoss(0.3), PARTS), BatchHardTripletLoss(0.3), vectors()
    reference = 0.5 * plain(x[:, :4], IDS) + 0.25 * plain(x[:, 4:8], IDS) + plain(x[:, 8:], IDS)
    torch.testing.assert_close(loss(x, IDS), reference)
    value, statistics = loss.with_statistics(x, IDS)
    assert torch.equal(value, loss(x, IDS))
    figures = [plain.with_statistics(x[:, a:b], IDS).statistics["active"] for a, b in ((0, 4), (4, 8), (8, 16))]
    mean = (0.5 * figures[0] + 0.25 * figures[1] + figures[2]) / 1.75
    torch.testing.assert_close(statistics["active"], mean)


def test_each_part_has_a_classifier_of_its_own_width() -> None:
    loss = PartLoss(lambda dim: IdentityLoss(3, dim), PARTS)
    shapes = {name: tuple(value.shape) for name, value in loss.state_dict().items()}
    assert shapes == {f"losses.{n}.classifier.weight": (3, dim) for n, dim in enumerate((4, 4, 8))}


def test_a_loss_without_statistics_has_none_in_parts_either() -> None:
    loss = PartLoss(lambda _: PairwiseCircleLoss(), PARTS)
    value, statistics = loss.with_statistics(vectors(), IDS)
    assert statistics == {}
    assert float(value) == pytest.approx(float(loss(vectors(), IDS)))
