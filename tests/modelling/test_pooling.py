import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modelling.pooling import POOLINGS, AveragePooling, GeneralizedMeanPooling, MaxPooling, build_pooling
from utils.errors import ReidError


def test_each_pooling_is_its_formula() -> None:
    x = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    gem = GeneralizedMeanPooling(2.5).requires_grad_(False)
    for image in range(2):
        for channel in range(3):
            values = [float(value) for value in x[image, channel].flatten()]
            mean = sum(value**2.5 for value in values) / len(values)
            assert float(AveragePooling()(x)[image, channel]) == pytest.approx(sum(values) / 20, rel=1e-5)
            assert float(MaxPooling()(x)[image, channel]) == pytest.approx(max(values), rel=1e-5)
            assert float(gem(x)[image, channel]) == pytest.approx(mean ** (1 / 2.5), rel=1e-5)


@given(st.floats(1.0, 8.0), st.floats(0.1, 8.0), st.integers(0, 1000))
def test_gem_grows_with_p_between_mean_and_maximum(p: float, more: float, seed: int) -> None:
    x = torch.rand(1, 4, 3, 2, generator=torch.Generator().manual_seed(seed)) + 0.01
    low, high = GeneralizedMeanPooling(p)(x), GeneralizedMeanPooling(p + more)(x)
    assert bool((low <= high + 1e-5).all())
    assert bool((low >= AveragePooling()(x) - 1e-5).all())
    assert bool((high <= MaxPooling()(x) + 1e-5).all())


def test_gem_learns_p_and_survives_zeros() -> None:
    gem = GeneralizedMeanPooling()
    x = torch.zeros(2, 3, 4, 4, requires_grad=True)
    gem(x).sum().backward()
    assert gem.p.grad is not None
    assert bool(gem.p.grad.isfinite().all())
    assert bool(x.grad.isfinite().all())
    gem.zero_grad()
    gem(torch.rand(2, 3, 4, 4)).sum().backward()
    assert float(gem.p.grad) > 0  # a larger p is nearer to the maximum
    assert gem.p.shape == (1,)


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_gives_float32_vectors(name: str) -> None:
    pooled = build_pooling(name)(torch.rand(2, 3, 4, 5, dtype=torch.bfloat16))
    assert pooled.shape == (2, 3)
    assert pooled.dtype == torch.float32


def test_wrong_poolings_are_named() -> None:
    with pytest.raises(ReidError, match=r"one of avg, max, gem, got 'gemm'; did you mean gem\?"):
        build_pooling("gemm")
    with pytest.raises(ReidError, match="p must be above 0, got 0"):
        GeneralizedMeanPooling(0)
