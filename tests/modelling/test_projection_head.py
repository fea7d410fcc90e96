import torch

from modelling.pooling import MaxPooling
from modelling.projection_head import ProjectionHead


def test_both_vectors_are_their_formulas() -> None:
    head = ProjectionHead(5, 4).eval()
    for tensor in (head.bn.running_mean, head.bn.weight, head.bn.bias, head.linear.bias):
        torch.nn.init.normal_(tensor)
    x = torch.randn(3, 5, 2, 6)
    with torch.inference_mode():
        features = head(x)
        raw = x.mean((2, 3)) @ head.linear.weight.T + head.linear.bias
        scaled = (raw - head.bn.running_mean) / (head.bn.running_var + 1e-5).sqrt()
        expected = (scaled * head.bn.weight + head.bn.bias).clamp_min(0)
    torch.testing.assert_close(features.raw, raw)
    torch.testing.assert_close(features.bn, expected)
    assert head.dim == 4


def test_vectors_are_float32_under_autocast_and_the_pooling_is_ours() -> None:
    head = ProjectionHead(5, 4, MaxPooling()).eval()
    x = torch.rand(2, 5, 3, 3)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        features = head(x.bfloat16())
    assert features.raw.dtype == features.bn.dtype == torch.float32
    with torch.inference_mode():
        expected = head.linear(x.bfloat16().float().amax((2, 3)))
    torch.testing.assert_close(features.raw, expected)
