"""Batches and comparisons that the tests of all losses share."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from utils.distance import Metric


class LossBatch(NamedTuple):
    """A batch in float64, and the name it shows in the test's id."""

    name: str
    embeddings: Tensor
    ids: Tensor


def _batches() -> list[LossBatch]:
    generator = torch.Generator().manual_seed(7)

    def vectors(count: int, dim: int = 12) -> Tensor:
        return torch.randn(count, dim, generator=generator, dtype=torch.float64) + 0.5

    even = torch.arange(5).repeat_interleave(4)
    order = torch.randperm(20, generator=generator)
    uneven = torch.tensor([3, 9, 3, 3, 1, 9, 5, 9, 3, 1, 5, 2])
    return [
        LossBatch("even", vectors(20), even),
        LossBatch("shuffled", vectors(20), even[order]),
        LossBatch("uneven", vectors(12), uneven),
        LossBatch("one_identity", vectors(4), torch.zeros(4, dtype=torch.long)),
        LossBatch("all_different", vectors(4), torch.arange(4)),
        LossBatch("one_image", vectors(1), torch.tensor([3])),
    ]


@pytest.fixture(params=_batches(), ids=lambda batch: batch.name)
def batch(request: pytest.FixtureRequest) -> LossBatch:
    """Each of the batches, in turn."""
    result: LossBatch = request.param
    return result


@pytest.fixture(
    params=[
        (None, "euclidean"), (0.0, "euclidean"), (3.0, "euclidean"), (5.0, "sqeuclidean"), (None, "cosine"),
        (0.3, "cosine"),
    ],
    ids=str,
)  # fmt: skip
def mining_arguments(request: pytest.FixtureRequest) -> tuple[float | None, Metric]:
    """Margins and distances of a triplet loss, in turn."""
    result: tuple[float | None, Metric] = request.param
    return result


def value_and_gradients(loss: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """The loss of some inputs, and its gradient with respect to each of them, in float64."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    value = loss(*leaves)
    gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    return [part.double() for part in (value.detach(), *gradients)]


def assert_equals_twin(loss: Callable[..., Tensor], twin: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
    """Value and gradients agree with the float64 twin, to the digits of the dtype."""
    reference = value_and_gradients(twin, *(tensor.double() for tensor in inputs))
    for dtype, tolerance in ((torch.float64, 1e-8), (torch.float32, 2e-5)):
        actual = value_and_gradients(loss, *(tensor.to(dtype) for tensor in inputs))
        for ours, theirs in zip(actual, reference, strict=True):
            torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)
