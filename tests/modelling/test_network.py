import torch

from modelling.backbones.resnet import ResNetBackbone
from modelling.network import ReidNetwork


def test_features_are_float32_under_autocast() -> None:
    network = ReidNetwork(ResNetBackbone("resnet18")).eval()
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        features = network(torch.rand(2, 3, 32, 16))
    assert features.raw.dtype == features.bn.dtype == torch.float32


def test_a_frozen_normalization_keeps_its_weights_and_follows_the_data() -> None:
    network = ReidNetwork(ResNetBackbone("resnet18")).train()
    assert network.dim == 512
    network.freeze_normalization()
    features = network(torch.rand(4, 3, 32, 16))
    features.bn.sum().backward()
    assert network.head.bn.weight.grad is None
    assert network.backbone.base.conv1.weight.grad is not None
    assert float(network.head.bn.running_mean.abs().max()) > 0
