import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from losses.centroid_triplet import CentroidTripletLoss, leave_one_out
from tests.losses.conftest import LossBatch, assert_equals_twin, value_and_gradients
from tests.reference.losses import plain_centroid_triplet
from utils.distance import Metric


def test_equals_plain_twin(batch: LossBatch, mining_arguments: tuple[float | None, Metric]) -> None:
    loss = CentroidTripletLoss(*mining_arguments)
    assert_equals_twin(
        lambda x: loss(x, batch.ids),
        lambda x: plain_centroid_triplet(x, batch.ids, *mining_arguments),
        (batch.embeddings,),
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_equals_plain_twin_on_any_batch(seed: int, identities: list[int]) -> None:
    ids = torch.tensor(identities)
    embeddings = torch.randn(len(ids), 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    loss = CentroidTripletLoss(1.0)
    ours = value_and_gradients(lambda x: loss(x, ids), embeddings)
    theirs = value_and_gradients(lambda x: plain_centroid_triplet(x, ids, 1.0), embeddings)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-8, rtol=1e-8)


def test_by_hand() -> None:
    # One dimension, two identities with two images: in group 0 the queries are 0 and 10 with the centroids 1
    # and 14, in group 1 the queries are 1 and 14 with the centroids 0 and 10.
    embeddings = torch.tensor([[0.0], [1.0], [10.0], [14.0]])
    ids = torch.tensor([0, 0, 1, 1])
    # group 0: 0 -> 1 - 10, 1 -> 1 - 9, 10 -> 4 - 9, 14 -> 4 - 13; margin 6 leaves 1 for anchor 10
    # group 1: 1 -> 1 - 9, 0 -> 1 - 10, 14 -> 4 - 13, 10 -> 4 - 9; the same
    result = CentroidTripletLoss(6.0).with_statistics(embeddings, ids)
    assert float(result.loss) == pytest.approx(1 / 4)
    figures = {name: float(value) for name, value in result.statistics.items()}
    assert figures == pytest.approx(
        {"hardest_positive": 2.5, "hardest_negative": 41 / 4, "active": 1 / 4, "centroid_norm": 25 / 4}
    )


def test_groups_weigh_the_same_whatever_their_size() -> None:
    # Group 2 holds the identities 0 and 1 only (three images each), groups 0 and 1 identity 2 as well.
    embeddings = torch.tensor([[0.0], [1.0], [2.0], [5.0], [6.0], [7.0], [3.0], [4.0]])
    ids = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])

    def hinge(vectors: list[tuple[float, int]]) -> float:
        losses = []
        for index, (value, identity) in enumerate(vectors):
            positives = [abs(value - v) for j, (v, i) in enumerate(vectors) if i == identity and j != index]
            negatives = [abs(value - v) for v, i in vectors if i != identity]
            losses.append(max(0.0, max(positives) - min(negatives) + 3.0))
        return sum(losses) / len(losses)

    first = hinge([(0.0, 0), (1.5, 0), (5.0, 1), (6.5, 1), (3.0, 2), (4.0, 2)])
    second = hinge([(1.0, 0), (1.0, 0), (6.0, 1), (6.0, 1), (4.0, 2), (3.0, 2)])
    third = hinge([(2.0, 0), (0.5, 0), (7.0, 1), (5.5, 1)])
    assert float(CentroidTripletLoss(3.0)(embeddings, ids)) == pytest.approx((first + second + third) / 3, rel=1e-3)


def test_a_single_image_is_a_negative_and_nothing_else() -> None:
    embeddings = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 5.0]], requires_grad=True)
    loss = CentroidTripletLoss(10.0)(embeddings, torch.tensor([0, 0, 1]))
    # group 0: query 0 and centroid 2 against query (1, 5); group 1 has no negative and does not count
    assert float(loss.detach()) == pytest.approx(2.0 - 26.0**0.5 + 10.0, rel=1e-6)
    loss.backward()
    assert embeddings.grad is not None
    assert embeddings.grad[2].abs().sum() > 0


def test_leave_one_out_of_a_mixed_batch() -> None:
    groups = leave_one_out(torch.tensor([4, 7, 4, 4]))
    assert groups.weights[0].tolist() == [0.0, 0.0, 0.5, 0.5]
    assert groups.weights[1].tolist() == [0.0] * 4
    assert groups.has_centroid.tolist() == [True, False, True, True]
    assert groups.rivals.nonzero().tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("offset", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("spread", [1.0, 0.05])
def test_float32_keeps_its_digits(offset: float, spread: float) -> None:
    generator = torch.Generator().manual_seed(3)
    ids = torch.arange(6).repeat_interleave(4)
    centers = torch.randn(6, 1024, generator=generator).repeat_interleave(4, 0)
    embeddings = offset + centers + spread * torch.randn(24, 1024, generator=generator)
    loss = CentroidTripletLoss(100.0)
    ours, ours_gradient = value_and_gradients(lambda x: loss(x, ids), embeddings)
    theirs, gradient = value_and_gradients(lambda x: plain_centroid_triplet(x, ids, 100.0), embeddings.double())
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    assert (ours_gradient - gradient).norm() / gradient.norm() < 1e-4


def test_gradient_agrees_with_finite_differences() -> None:
    generator = torch.Generator().manual_seed(5)
    embeddings = torch.randn(9, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([0, 1, 0, 2, 1, 0, 2, 3, 1])

    def soft(x: Tensor) -> Tensor:
        result: Tensor = CentroidTripletLoss(None)(x, ids)
        return result

    assert torch.autograd.gradcheck(soft, (embeddings,))
