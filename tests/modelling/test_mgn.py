"""The head of three branches against plain layers."""

import pytest
import torch
from torch import nn

from modelling.backbones import backbone
from modelling.deployment import Embedder
from modelling.heads import HEADS, POOLINGS
from modelling.network import ReidNetwork
from tests.support import randomize_statistics
from utils.errors import ReidError

SIZE = (96, 32)


def network(head: str, name: str = "resnet18", **options: object) -> ReidNetwork:
    body = backbone(name).build(input_size=SIZE, **options)
    whole = ReidNetwork(body, HEADS[head](body, POOLINGS["max"], 8))
    randomize_statistics(whole)
    return whole.eval()


@pytest.mark.parametrize("head", ["mgn", "mgn_norm", "mgn_relu"])
def test_an_embedding_is_three_wholes_two_halves_and_three_thirds(head: str) -> None:
    whole, images = network(head), torch.rand(2, 3, *SIZE)
    with torch.inference_mode():
        maps = [branch(whole.backbone(images)) for branch in whole.head.branches]
        maps = [norm(values) for norm, values in zip(whole.head.norms, maps, strict=True)]
        second, third = maps[1:]
        areas = [*maps, second[:, :, :3], second[:, :, 3:], third[:, :, :2], third[:, :, 2:4], third[:, :, 4:]]
        raw = torch.cat([layer(area.amax((2, 3))) for layer, area in zip(whole.head.linears, areas, strict=True)], 1)
        features = whole(images)
        torch.testing.assert_close(features.raw, raw)
        torch.testing.assert_close(features.bn, whole.head.bn(raw))
    assert (whole.dim, whole.head.parts) == (64, (8,) * 8)
    assert bool((features.raw < 0).any()) == (head != "mgn_relu")


def test_the_last_stride_counts_for_the_branch_without_stripes() -> None:
    whole = network("mgn", last_stride=2)
    feature_map = whole.backbone(torch.rand(1, 3, *SIZE))
    assert feature_map.shape == (1, whole.backbone.out_channels, 6, 2)
    assert [tuple(branch(feature_map).shape[2:]) for branch in whole.head.branches] == [(3, 1), (6, 2), (6, 2)]


def test_maps_whose_height_is_no_multiple_are_cut_too() -> None:
    whole = network("mgn")
    with torch.inference_mode():
        assert whole(torch.rand(1, 3, 64, 32)).bn.shape == (1, 64)  # 4 rows, 3 stripes
        with pytest.raises(ValueError, match="cuts 3 stripes, but the map has 2 rows"):
            whole(torch.rand(1, 3, 32, 16))


def test_the_branches_learn_on_their_own_and_are_folded() -> None:
    whole = network("mgn")
    whole.train()(torch.rand(4, 3, *SIZE)).bn.square().mul(torch.rand(64)).sum().backward()
    gradients = [branch.layer4[1].conv2.weight.grad for branch in whole.head.branches]
    assert all(float(gradient.abs().max()) > 0 for gradient in gradients)
    assert not torch.equal(gradients[0], gradients[1])
    whole.eval()
    embedder, images = Embedder(whole, torch.device("cpu")), torch.rand(2, 3, *SIZE)
    with torch.inference_mode():
        torch.testing.assert_close(embedder(images), whole(images).bn, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in embedder.network.modules())
    assert embedder.network.head.branches[1].layer4[0].conv1.weight.dtype == torch.float32
    halves = Embedder(whole, torch.device("cpu"), "bf16").network.head
    assert halves.branches[1].layer4[0].conv1.weight.dtype == torch.bfloat16
    assert halves.linears[0].weight.dtype == torch.float32


def test_another_network_is_refused() -> None:
    body = backbone("osnet_x0_25").build(input_size=SIZE)
    with pytest.raises(ReidError, match=r"MODEL\.HEAD mgn needs a ResNet"):
        HEADS["mgn"](body, POOLINGS["avg"], 0)
