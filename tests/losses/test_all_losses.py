"""What every loss promises, whatever it computes."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from losses.center import CenterLoss
from losses.centroid_triplet import CentroidTripletLoss
from losses.identity import IdentityLoss
from losses.margins import MARGINS, CosineIdentityLoss
from losses.objectives import Objective, Term
from losses.octuplet import OctupletLoss
from losses.similarity import MultiSimilarityLoss, PairwiseCircleLoss
from losses.triplet import BatchHardTripletLoss
from losses.weighted_triplet import WeightedTripletLoss
from tests.support import NoWaiting
from utils.distance import METRICS, Metric

DIM = 16
IDS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 3])


class _BothViews(nn.Module):
    """Octuplet loss of one matrix, its second view made from the first."""

    def __init__(self, loss: OctupletLoss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        result: Tensor = self.loss(embeddings, 0.5 * embeddings, ids)
        return result

    def with_statistics(self, embeddings: Tensor, ids: Tensor) -> object:
        return self.loss.with_statistics(embeddings, 0.5 * embeddings, ids)


def _triplet_like(metric: Metric) -> dict[str, Callable[[], nn.Module]]:
    return {
        f"triplet-{metric}": lambda: BatchHardTripletLoss(0.3, metric),
        f"soft-{metric}": lambda: BatchHardTripletLoss(None, metric),
        f"centroid-{metric}": lambda: CentroidTripletLoss(0.3, metric),
        f"weighted-{metric}": lambda: WeightedTripletLoss(None, metric),
        f"octuplet-{metric}": lambda: _BothViews(OctupletLoss(25.0, metric)),
    }


TRIPLET_LIKE = {name: make for metric in METRICS for name, make in _triplet_like(metric).items()}
ALL = {
    **TRIPLET_LIKE,
    "circle": PairwiseCircleLoss,
    "multi-similarity": MultiSimilarityLoss,
    "center": lambda: CenterLoss(4, DIM),
    "identity": lambda: IdentityLoss(4, DIM),
    **{name: partial(CosineIdentityLoss, 4, DIM, 0.1, name) for name in MARGINS},
}


@pytest.fixture(params=ALL.values(), ids=ALL.keys())
def loss(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    result: nn.Module = request.param()
    return result


@pytest.fixture(params=TRIPLET_LIKE.values(), ids=TRIPLET_LIKE.keys())
def triplet_like(request: pytest.FixtureRequest) -> nn.Module:
    result: nn.Module = request.param()
    return result


def embeddings_of(count: int = len(IDS)) -> Tensor:
    return torch.randn(count, DIM, generator=torch.Generator().manual_seed(1)).requires_grad_()


def test_never_waits_for_the_device(loss: nn.Module) -> None:
    embeddings = embeddings_of()
    with NoWaiting():
        loss(embeddings, IDS).backward()
        Objective([Term("some", loss, 0.5, "raw")])({"main": {"raw": embeddings}}, IDS).total.backward()


@pytest.mark.parametrize(
    "wait",
    [Tensor.item, bool, lambda x: x[x > 0], torch.nonzero, torch.unique, lambda x: x.masked_select(x > 0)],
)
def test_the_test_above_can_fail(wait: Callable[[Tensor], object]) -> None:
    with NoWaiting(), pytest.raises(AssertionError, match="waits for the device"):
        wait(torch.ones(1))


def test_bf16_input_under_autocast_gives_float32_without_nan(loss: nn.Module) -> None:
    embeddings = embeddings_of().detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(embeddings, IDS)
    value.backward()
    full = embeddings.detach().float().requires_grad_()
    reference = loss(full, IDS)
    (gradient,) = torch.autograd.grad(reference, full)
    assert value.dtype == torch.float32
    assert embeddings.grad is not None
    torch.testing.assert_close(value, reference, rtol=1e-3, atol=1e-3)
    # The gradient is rounded to bf16, three digits, on its way out.
    assert (embeddings.grad.float() - gradient).norm() < 0.01 * gradient.norm()


def test_autocast_changes_nothing_but_the_classifier(triplet_like: nn.Module) -> None:
    embeddings = embeddings_of()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = triplet_like(embeddings, IDS)
    torch.testing.assert_close(value, triplet_like(embeddings, IDS), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("ids", [torch.arange(len(IDS)), torch.zeros_like(IDS)], ids=["different", "equal"])
def test_nothing_to_compare_gives_zero_with_a_graph(triplet_like: nn.Module, ids: Tensor) -> None:
    embeddings = embeddings_of()
    value = triplet_like(embeddings, ids)
    value.backward()
    assert float(value.detach()) == 0
    assert embeddings.grad is not None
    assert (embeddings.grad == 0).all()


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_equal_embeddings_have_finite_gradients(triplet_like: nn.Module, fill: float) -> None:
    embeddings = torch.full((len(IDS), DIM), fill, requires_grad=True)
    value = triplet_like(embeddings, IDS)
    value.backward()
    assert torch.isfinite(value)
    assert embeddings.grad is not None
    assert torch.isfinite(embeddings.grad).all()


def test_statistics_come_with_the_very_loss(loss: nn.Module) -> None:
    if not hasattr(loss, "with_statistics"):
        pytest.skip("has no statistics")
    embeddings = embeddings_of()
    value, statistics = loss.with_statistics(embeddings, IDS)
    assert torch.equal(value, loss(embeddings, IDS))
    assert value.requires_grad
    assert all(figure.shape == () and not figure.requires_grad for figure in statistics.values())
    assert all(torch.isfinite(figure) for figure in statistics.values())


def test_a_diverged_network_shows(loss: nn.Module) -> None:
    embeddings = embeddings_of().detach()
    embeddings[0] = torch.nan
    assert torch.isnan(loss(embeddings, IDS))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu_and_does_not_synchronize(loss: nn.Module) -> None:
    embeddings = embeddings_of()
    reference = loss(embeddings, IDS)
    (gradient,) = torch.autograd.grad(reference, embeddings)
    loss.cuda()
    on_device = embeddings.detach().cuda().requires_grad_()
    ids = IDS.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        value = loss(on_device, ids)
        (device_gradient,) = torch.autograd.grad(value, on_device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(value.cpu(), reference, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(device_gradient.cpu(), gradient, rtol=1e-3, atol=1e-4)
