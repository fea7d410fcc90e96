import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.plain_losses import plain_triplet
from losses.triplet import BatchHardTripletLoss
from tests.losses.conftest import LossBatch, assert_equals_twin
from utils.distance import Metric
from utils.errors import ReidError


@pytest.mark.parametrize(
    ("metric", "margin"),
    [
        ("euclidean", None),
        ("euclidean", 0.0),
        ("euclidean", 3.0),
        ("sqeuclidean", 5.0),
        ("cosine", None),
        ("cosine", 0.3),
    ],
)
def test_equals_plain_twin(batch: LossBatch, margin: float | None, metric: Metric) -> None:
    loss = BatchHardTripletLoss(margin, metric)
    assert_equals_twin(
        lambda x: loss(x, batch.ids, batch.valid),
        lambda x: plain_triplet(x, batch.ids, margin, metric, batch.valid),
        (batch.embeddings,),
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


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ReidError, match="margin must be"):
        BatchHardTripletLoss(-1.0)
    with pytest.raises(ReidError, match="metric must be one of"):
        BatchHardTripletLoss(0.3, "manhattan")  # type: ignore[arg-type]


def test_repr_shows_the_arguments() -> None:
    assert repr(BatchHardTripletLoss(None, "cosine")) == "BatchHardTripletLoss(margin=None, distance='cosine')"
