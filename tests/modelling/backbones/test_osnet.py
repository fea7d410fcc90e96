import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelling.backbones.osnet import OSNETS, ChannelGate, OmniScaleBlock, OSNetBackbone
from modelling.backbones.resnet import ResNetBackbone
from modelling.heads import ProjectionHead
from utils.errors import ReidError


def multiply_adds(*modules: nn.Module) -> int:
    """Of convolutions and linear layers, for one image of 256 x 128."""
    total = 0

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        total += output.numel() * layer.weight[0].numel()  # type: ignore[operator, index]

    for module in modules:
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.register_forward_hook(count)
    with torch.inference_mode():
        value: object = torch.zeros(1, 3, 256, 128)
        for module in modules:
            value = module.eval()(value)
    return total


# Zhou et al. 2019 and torchreid's model zoo publish millions of parameters and of multiply-adds; the exact
# number of parameters pins what they round.
@pytest.mark.parametrize(
    ("name", "parameters", "exact", "operations"),
    [
        ("osnet_x1_0", 2.2, 2_169_508, 978.9),
        ("osnet_x0_75", 1.3, 1_285_754, 571.8),
        ("osnet_x0_5", 0.6, 630_034, 272.9),
        ("osnet_x0_25", 0.2, 201_864, 82.3),
        ("osnet_ibn_x1_0", 2.2, 2_170_532, 978.9),
        ("osnet_ain_x1_0", 2.2, 2_169_508, 978.9),
    ],
)
def test_size_is_the_published_one(name: str, parameters: float, exact: int, operations: float) -> None:
    backbone = OSNetBackbone(name)
    head = ProjectionHead(backbone.out_channels)
    count = sum(p.numel() for module in (backbone, head) for p in module.parameters())
    assert count == exact
    assert round(count / 1e6, 1) == parameters
    assert multiply_adds(backbone, head) / 1e6 == pytest.approx(operations, abs=0.06)


def test_resnet50_has_the_published_number_of_multiply_adds() -> None:
    # torchreid's model zoo: 2.7 G with last stride 2, 4.1 G with last stride 1 and a projection.
    assert multiply_adds(ResNetBackbone("resnet50", last_stride=2)) / 1e9 == pytest.approx(2.7, abs=0.05)
    with_projection = (ResNetBackbone("resnet50", last_stride=1), ProjectionHead(2048))
    assert multiply_adds(*with_projection) / 1e9 == pytest.approx(4.1, abs=0.05)


@pytest.mark.parametrize("name", OSNETS)
def test_feature_map_is_a_sixteenth_of_the_image(name: str) -> None:
    backbone = OSNetBackbone(name).eval()
    with torch.inference_mode():
        assert backbone(torch.rand(2, 3, 64, 32)).shape == (2, backbone.out_channels, 4, 2)


def test_gate_is_its_formula() -> None:
    gate = ChannelGate(32).double()
    x = torch.randn(2, 32, 3, 2, dtype=torch.float64)
    hidden = torch.einsum("hc,nc->nh", gate.fc1.weight[:, :, 0, 0], x.mean((2, 3))) + gate.fc1.bias
    logits = torch.einsum("ch,nh->nc", gate.fc2.weight[:, :, 0, 0], hidden.clamp_min(0)) + gate.fc2.bias
    torch.testing.assert_close(gate(x), x / (1 + torch.exp(-logits))[:, :, None, None])


State = dict[str, Tensor]


def norm(x: Tensor, state: State, name: str) -> Tensor:
    mean, var = state[name + ".running_mean"], state[name + ".running_var"]
    scale = state[name + ".weight"] / (var + 1e-5).sqrt()
    return x * scale[:, None, None] + (state[name + ".bias"] - mean * scale)[:, None, None]


def instance_norm(x: Tensor, state: State) -> Tensor:
    centered = x - x.mean((2, 3), keepdim=True)
    scaled = centered / (centered.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
    return scaled * state["IN.weight"][:, None, None] + state["IN.bias"][:, None, None]


def pointwise(x: Tensor, state: State, name: str) -> Tensor:
    return torch.einsum("oc,nchw->nohw", state[name][:, :, 0, 0], x)


def light(x: Tensor, state: State, name: str) -> Tensor:
    x = pointwise(x, state, name + ".conv1.weight")
    padded, kernel = F.pad(x, (1, 1, 1, 1)), state[name + ".conv2.weight"][:, 0]
    height, width = x.shape[2:]
    shifted = [
        padded[:, :, i : i + height, j : j + width] * kernel[:, i, j, None, None] for i in range(3) for j in range(3)
    ]
    return norm(torch.stack(shifted).sum(0), state, name + ".bn").clamp_min(0)


LAYERS = (
    ["conv2a"],
    *([f"conv2{letter}.{i}" for i in range(n)] for letter, n in (("b", 2), ("c", 3), ("d", 4))),
)


@pytest.mark.parametrize("normalization", ["none", "after", "residual"])
@pytest.mark.parametrize("inputs", [16, 64])
def test_block_is_its_formula(inputs: int, normalization: str) -> None:
    block = OmniScaleBlock(inputs, 64, normalization).double().eval()
    state = block.state_dict()
    for name, tensor in state.items():  # statistics and scales that no layer can ignore
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.1 if "running_var" in name else torch.randn_like(tensor))
    x = torch.randn(2, inputs, 5, 4, dtype=torch.float64)
    reduced = norm(pointwise(x, state, "conv1.conv.weight"), state, "conv1.bn").clamp_min(0)
    mixed = torch.zeros_like(reduced)
    for layers in LAYERS:
        stream = reduced
        for layer in layers:
            stream = light(stream, state, layer)
        mixed = mixed + block.gate(stream)
    residual = pointwise(mixed, state, "conv3.conv.weight")
    residual = instance_norm(residual, state) if normalization == "residual" else norm(residual, state, "conv3.bn")
    shortcut = x
    if inputs != 64:
        shortcut = norm(pointwise(x, state, "downsample.conv.weight"), state, "downsample.bn")
    added = residual + shortcut
    reference = (instance_norm(added, state) if normalization == "after" else added).clamp_min(0)
    torch.testing.assert_close(block(x), reference)


def test_an_unknown_osnet_is_named() -> None:
    with pytest.raises(ReidError, match=r"one of osnet_x1_0, .*got 'osnet_x2'"):
        OSNetBackbone("osnet_x2")
