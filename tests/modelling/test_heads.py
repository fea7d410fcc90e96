import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modelling.heads import (
    HEADS,
    POOLINGS,
    AveragePooling,
    BNNeck,
    GeneralizedMeanPooling,
    MaxPooling,
    ProjectionHead,
)
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
    pooled = POOLINGS[name]()(torch.rand(2, 3, 4, 5, dtype=torch.bfloat16))
    assert pooled.shape == (2, 3)
    assert pooled.dtype == torch.float32


def test_gem_refuses_a_power_of_0() -> None:
    with pytest.raises(ReidError, match="p must be above 0, got 0"):
        GeneralizedMeanPooling(0)


@pytest.mark.parametrize("name", ["bnneck", "projection"])
def test_every_head_is_made_and_called_alike(name: str) -> None:
    feature_map = torch.rand(2, 5, 3, 2)
    backbone = torch.nn.Identity()
    backbone.out_channels = 5
    head = HEADS[name](backbone, MaxPooling, 3).eval()
    with torch.inference_mode():
        features = head(feature_map)
        reference = head.linear(feature_map.amax((2, 3)))
    assert head.dim == 3
    assert features.raw.shape == features.bn.shape == (2, 3)
    torch.testing.assert_close(features.raw, reference)
    assert isinstance(head.get_submodule("bn"), torch.nn.BatchNorm1d)
    assert HEADS[name](backbone, AveragePooling, 0).dim == {"bnneck": 5, "projection": 512}[name]


def test_the_neck_pools_normalizes_and_keeps_its_bias_at_zero() -> None:
    neck = BNNeck(5).train()
    feature_map = torch.randn(8, 5, 4, 2) * 2 + 1
    features = neck(feature_map)
    torch.testing.assert_close(features.raw, feature_map.mean((2, 3)))
    torch.testing.assert_close(features.bn.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    assert not neck.bn.bias.requires_grad
    assert neck.bn.weight.requires_grad


def test_the_neck_reduces_before_it_normalizes() -> None:
    neck = BNNeck(5, dim=3).train()
    feature_map = torch.randn(8, 5, 4, 2)
    features = neck(feature_map)
    assert neck.dim == 3
    weight = neck.state_dict()["linear.weight"]
    torch.testing.assert_close(features.raw, torch.einsum("ncij,dc->nd", feature_map, weight) / 8)
    centered = features.raw - features.raw.mean(0)
    torch.testing.assert_close(features.bn, centered / (centered.square().mean(0) + 1e-5).sqrt())
    assert {name for name in neck.state_dict() if "linear" in name} == {"linear.weight"}
    assert [name for name in BNNeck(5).state_dict() if "linear" in name] == []
    with torch.autocast("cpu", torch.bfloat16):
        assert neck(feature_map.bfloat16()).bn.dtype == torch.float32


def test_both_vectors_of_the_projection_are_their_formulas() -> None:
    head = ProjectionHead(5, dim=4).eval()
    for tensor in (head.bn.running_mean, head.bn.weight, head.bn.bias, head.linear.bias):
        torch.nn.init.normal_(tensor)
    x = torch.randn(3, 5, 2, 6)
    with torch.inference_mode():
        features = head(x)
        raw = x.mean((2, 3)) @ head.linear.weight.T + head.linear.bias
        scaled = (raw - head.bn.running_mean) / (head.bn.running_var + 1e-5).sqrt()
        reference = (scaled * head.bn.weight + head.bn.bias).clamp_min(0)
    torch.testing.assert_close(features.raw, raw)
    torch.testing.assert_close(features.bn, reference)
    assert head.dim == 4


def test_the_projection_is_float32_under_autocast() -> None:
    head = ProjectionHead(5, MaxPooling, 4).eval()
    x = torch.rand(2, 5, 3, 3)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        features = head(x.bfloat16())
    assert features.raw.dtype == features.bn.dtype == torch.float32
    with torch.inference_mode():
        reference = head.linear(x.bfloat16().float().amax((2, 3)))
    torch.testing.assert_close(features.raw, reference)
