"""Non-local blocks, and the networks that have them."""

import pytest
import torch
from torch import nn

from modelling.backbones import backbone
from modelling.backbones.non_local import NonLocal


def test_a_block_is_the_sum_over_all_pairs() -> None:
    block = NonLocal(4).eval()
    nn.init.constant_(block.W[1].weight, 0.7)
    x = torch.randn(2, 4, 3, 2)
    with torch.inference_mode():
        theta, phi, g = (
            (x.flatten(2).mT @ layer.weight.view(4) + layer.bias) for layer in (block.theta, block.phi, block.g)
        )
        sums = torch.stack([sum(theta * phi[:, j : j + 1] * g[:, j : j + 1] for j in range(6))])[0] / 6
        reference = x + block.W(sums.view(2, 1, 3, 2))
        torch.testing.assert_close(block(x), reference)
    assert not torch.allclose(reference, x)


@pytest.mark.parametrize(
    ("name", "blocks"), [("resnet50_nl", (2, 3)), ("resnet101_ibn_a_nl", (2, 9)), ("resnest50_nl", (2, 3))]
)
def test_they_follow_the_last_blocks_and_begin_as_the_identity(name: str, blocks: tuple[int, int]) -> None:
    if name.startswith("resnest"):
        pytest.importorskip("timm")
    network, plain = (backbone(key).build(input_size=(64, 32)).eval() for key in (name, name.removesuffix("_nl")))
    network.load_state_dict(plain.state_dict(), strict=False)
    for stage, count in zip((network.base.layer2, network.base.layer3), blocks, strict=True):
        kinds = [isinstance(layer, NonLocal) for layer in stage]
        assert kinds == [False] * (len(kinds) - 2 * count) + [False, True] * count
    images = torch.rand(2, 3, 64, 32)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), plain(images))
    network.train()(images).square().mean().backward()
    assert float(network.base.layer3.non_local2.W[1].weight.grad.abs().max()) > 0


@pytest.mark.parametrize(
    ("name", "parameters"), [("resnest50", 27_483_240 - 2_049_000), ("resnet50_nl", 23_508_032 + 28_687)]
)
def test_parameters_are_those_that_are_published(name: str, parameters: int) -> None:
    if name.startswith("resnest"):
        pytest.importorskip("timm")
    assert sum(p.numel() for p in backbone(name).build(input_size=(64, 32)).parameters()) == parameters


@pytest.mark.parametrize(
    ("options", "shape"), [({}, (4, 2)), ({"last_dilation": 2}, (4, 2)), ({"last_stride": 2}, (2, 1))]
)
def test_a_resnest_has_the_resolution_of_its_last_stride(options: dict[str, int], shape: tuple[int, int]) -> None:
    pytest.importorskip("timm")
    network = backbone("resnest50").build(input_size=(64, 32), **options).eval()
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 64, 32)).shape == (1, 2048, *shape)
    assert [block.conv2.conv.dilation[0] for block in network.base.layer4] == [1] + [
        options.get("last_dilation", 1)
    ] * 2
