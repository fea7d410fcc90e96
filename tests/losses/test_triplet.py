import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from losses.triplet import BatchHardTripletLoss
from tests.losses.conftest import LossBatch, assert_equals_twin
from tests.reference.losses import plain_triplet
from utils.distance import Metric


def test_equals_plain_twin(batch: LossBatch, mining_arguments: tuple[float | None, Metric]) -> None:
    loss = BatchHardTripletLoss(*mining_arguments)
    assert_equals_twin(
        lambda x: loss(x, batch.ids), lambda x: plain_triplet(x, batch.ids, *mining_arguments), (batch.embeddings,)
    )


def test_by_hand() -> None:
    embeddings = torch.tensor([[0.0], [3.0], [4.0], [10.0]])
    ids = torch.tensor([0, 0, 1, 1])
    # anchors: (3 - 4), (3 - 1), (6 - 1), (6 - 7), each + 0.5, cut at 0
    result = BatchHardTripletLoss(0.5).with_statistics(embeddings, ids)
    assert float(result.loss) == pytest.approx((0 + 2.5 + 5.5 + 0) / 4)
    figures = {name: float(value) for name, value in result.statistics.items()}
    assert figures == pytest.approx({"hardest_positive": 4.5, "hardest_negative": 3.25, "active": 0.5})


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 3), min_size=2, max_size=10))
def test_order_shift_and_labels_do_not_matter(seed: int, ids: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor(ids)
    embeddings = torch.randn(len(ids), 6, generator=generator, dtype=torch.float64)
    order = torch.randperm(len(ids), generator=generator)
    loss = BatchHardTripletLoss(0.5)
    value = loss(embeddings, labels)
    torch.testing.assert_close(loss(embeddings[order], labels[order]), value)
    torch.testing.assert_close(loss(embeddings + 1.5, labels), value)
    torch.testing.assert_close(loss(embeddings, 40 - 7 * labels), value)
