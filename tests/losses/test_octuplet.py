import pytest
import torch
from torch import Tensor

from losses.octuplet import RESOLUTION_PAIRS, OctupletLoss
from losses.triplet import BatchHardTripletLoss
from tests.losses.conftest import LossBatch, assert_equals_twin
from tests.reference.losses import plain_octuplet
from utils.distance import Metric
from utils.errors import ReidError


def low_view(high: Tensor) -> Tensor:
    noise = torch.randn(high.shape, generator=torch.Generator().manual_seed(11), dtype=high.dtype)
    return 0.8 * high + 0.5 * noise


@pytest.mark.parametrize(
    ("margin", "metric", "terms"),
    [
        (25.0, "euclidean", RESOLUTION_PAIRS),
        (None, "euclidean", RESOLUTION_PAIRS),
        (0.3, "cosine", RESOLUTION_PAIRS),
        (2.0, "sqeuclidean", ("ll", "lh")),
        (2.0, "euclidean", ("hl",)),
        (2.0, "euclidean", ("lh", "hl")),
    ],
)
def test_equals_plain_twin(batch: LossBatch, margin: float | None, metric: Metric, terms: tuple[str, ...]) -> None:
    loss = OctupletLoss(margin, metric, terms)
    assert_equals_twin(
        lambda high, low: loss(high, low, batch.ids),
        lambda high, low: plain_octuplet(high, low, batch.ids, margin, metric, terms),
        (batch.embeddings, low_view(batch.embeddings)),
    )


def test_default_is_four_terms_and_margin_25() -> None:
    embeddings = torch.randn(8, 4)
    ids = torch.arange(4).repeat_interleave(2)
    four_triplets = 4 * BatchHardTripletLoss(25.0)(embeddings, ids)
    torch.testing.assert_close(OctupletLoss()(embeddings, embeddings, ids), four_triplets)


def test_the_low_twin_of_an_image_is_no_positive() -> None:
    high = torch.tensor([[0.0], [1.0], [5.0]])
    low = torch.tensor([[100.0], [1.0], [5.0]])
    result = OctupletLoss(0.0, terms=("hl",)).with_statistics(high, low, torch.tensor([0, 0, 1]))
    # anchor 0: positive 1, negative 5; anchor 1: positive 100 - 1, negative 4; the pair (0, 100) is left out
    assert float(result.loss) == pytest.approx((0 + 95) / 2)
    assert float(result.statistics["hardest_positive"]) == pytest.approx(50.0)


def test_gradient_reaches_both_views_through_the_distances() -> None:
    high = torch.randn(8, 4, requires_grad=True)
    low = torch.randn(8, 4, requires_grad=True)
    OctupletLoss(terms=("hl",))(high, low, torch.arange(4).repeat_interleave(2)).backward()
    assert high.grad is not None
    assert low.grad is not None
    assert (high.grad.norm(dim=1) > 0).all()
    assert low.grad.norm() > 0


@pytest.mark.parametrize("terms", [(), ("hh", "hh"), ("hh", "hx"), ("h",)])
def test_bad_terms_are_refused(terms: tuple[str, ...]) -> None:
    with pytest.raises(ReidError, match=r"terms must be one or more of hh, hl, lh, ll, each once, got \("):
        OctupletLoss(terms=terms)


def test_views_of_unlike_shapes_are_refused() -> None:
    with pytest.raises(ReidError, match=r"low must have the shape of high, .* got \(3, 2\) and \(4, 2\)"):
        OctupletLoss()(torch.ones(4, 2), torch.ones(3, 2), torch.arange(4))
