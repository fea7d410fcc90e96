import pytest
import torch
from torch import Tensor

from utils.distance import METRICS, Metric, distance_matrix, distances_from_products
from utils.errors import ReidError


def plain(x: Tensor, y: Tensor, metric: str) -> Tensor:
    rows = []
    for a in x:
        if metric == "cosine":
            rows.append(torch.stack([1 - (a @ b) / (a.norm() * b.norm()) for b in y]))
        else:
            rows.append(torch.stack([(a - b).square().sum() for b in y]))
    distances = torch.stack(rows)
    return distances.sqrt() if metric == "euclidean" else distances


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_equals_plain_loops(metric: Metric, dtype: torch.dtype, tolerance: float) -> None:
    x, y = torch.randn(5, 16, dtype=dtype), torch.randn(7, 16, dtype=dtype)
    reference = plain(x.double(), y.double(), metric)
    distances = distance_matrix(x, y, metric)
    products = distances_from_products(x @ y.T, x.square().sum(1), y.square().sum(1), metric)
    assert distances.dtype == products.dtype == dtype
    torch.testing.assert_close(distances.double(), reference, atol=tolerance, rtol=10 * tolerance)
    torch.testing.assert_close(products.double(), reference, atol=tolerance, rtol=10 * tolerance)


@pytest.mark.parametrize("metric", METRICS)
def test_gradients_agree_with_finite_differences(metric: Metric) -> None:
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    y = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: distance_matrix(a, b, metric), (x, y))
    assert torch.autograd.gradcheck(
        lambda a, b: distances_from_products(a @ b.T, a.square().sum(1), b.square().sum(1), metric),
        (x, y),
    )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("rows", [torch.ones(4, 8), torch.zeros(4, 8)], ids=["equal", "zero"])
def test_equal_and_zero_vectors_have_finite_gradients(metric: Metric, rows: Tensor) -> None:
    rows = rows.clone().requires_grad_()
    distance_matrix(rows, rows, metric).sum().backward()
    assert torch.isfinite(rows.grad).all()
    again = rows.detach().clone().requires_grad_()
    squares = again.square().sum(1)
    distances_from_products(again @ again.T, squares, squares, metric).sum().backward()
    assert torch.isfinite(again.grad).all()


def test_autocast_does_not_reach_the_product() -> None:
    # Half a unit in bfloat16 at 100 is 0.25: a bfloat16 product would be off by far more than the tolerance.
    x, y = 100 + torch.randn(4, 64), 100 + torch.randn(4, 64)
    reference = plain(x.double(), y.double(), "euclidean").float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        distances = distance_matrix(x, y)
    assert distances.dtype == torch.float32
    torch.testing.assert_close(distances, reference, atol=0, rtol=2e-2)


def test_half_precision_input_gives_float32() -> None:
    assert distance_matrix(torch.ones(2, 3).bfloat16(), torch.ones(2, 3).bfloat16()).dtype == torch.float32


def test_unknown_metric_is_refused() -> None:
    with pytest.raises(ReidError, match="metric must be one of euclidean, sqeuclidean, cosine, got 'manhattan'"):
        distance_matrix(torch.ones(1, 1), torch.ones(1, 1), "manhattan")  # type: ignore[arg-type]
    with pytest.raises(ReidError, match="metric must be one of"):
        distances_from_products(torch.ones(1, 1), torch.ones(1), torch.ones(1), "l1")  # type: ignore[arg-type]
