from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from modelling.backbones import resnet
from modelling.backbones.resnet import InstanceBatchNorm, ResNetBackbone
from modelling.network import ReidNetwork
from modelling.weights.foreign import imagenet_weights
from utils.errors import ReidError


@pytest.mark.parametrize(("name", "channels"), [("resnet18", 512), ("resnet50", 2048), ("resnet50_ibn_a", 2048)])
@pytest.mark.parametrize(("last_stride", "size"), [(1, (4, 2)), (2, (2, 1))])
def test_feature_maps_have_the_resolution_of_the_last_stride(
    name: str, channels: int, last_stride: int, size: tuple[int, int]
) -> None:
    backbone = ResNetBackbone(name, last_stride=last_stride).eval()
    with torch.inference_mode():
        assert backbone(torch.rand(2, 3, 64, 32)).shape == (2, channels, *size)
    assert backbone.out_channels == channels


def test_with_last_stride_2_it_is_torchvisions_network() -> None:
    reference = torchvision.models.resnet18(weights=None).eval()
    backbone = ResNetBackbone("resnet18", last_stride=2).eval()
    backbone.base.load_state_dict(reference.state_dict(), strict=False)
    network = ReidNetwork(backbone).eval()
    images = torch.rand(2, 3, 64, 32)
    reference.fc = nn.Identity()
    with torch.inference_mode():
        torch.testing.assert_close(network(images).raw, reference(images))


def test_options_reach_the_network() -> None:
    backbone = ResNetBackbone("resnet18", last_stride=2, stem_relu=False)
    assert isinstance(backbone.base.relu, nn.Identity)
    assert backbone.base.layer4[0].conv1.stride == (2, 2)


def test_windows_of_fast_reids_stem_begin_on_the_map() -> None:
    x = torch.arange(24.0).reshape(1, 1, 4, 6)
    padded, ceil = (ResNetBackbone("resnet18", stem_pool=pool).base.maxpool(x) for pool in ("padded", "ceil"))
    assert padded.tolist() == [[[[7.0, 9.0, 11.0], [19.0, 21.0, 23.0]]]]
    assert ceil.tolist() == [[[[14.0, 16.0, 17.0], [20.0, 22.0, 23.0]]]]


def test_the_stem_relu_can_be_left_out() -> None:
    with_relu, without = ResNetBackbone("resnet18").eval(), ResNetBackbone("resnet18", stem_relu=False).eval()
    without.load_state_dict(with_relu.state_dict())
    stems: list[torch.Tensor] = []
    without.base.maxpool.register_forward_pre_hook(lambda _, inputs: stems.append(inputs[0]))
    images = torch.rand(1, 3, 32, 16)
    with torch.inference_mode():
        assert not torch.allclose(with_relu(images), without(images))
    assert float(stems[0].min()) < 0


def test_resnet50_has_the_published_number_of_parameters() -> None:
    assert sum(p.numel() for p in ResNetBackbone("resnet50").parameters()) == 23_508_032


def test_ibn_normalizes_the_first_half_by_image_and_the_rest_by_batch() -> None:
    x = torch.randn(4, 7, 5, 3) * 3 + 2
    output = InstanceBatchNorm(7).train()(x)
    first = (x[:, :3] - x[:, :3].mean((2, 3), keepdim=True)) / x[:, :3].std((2, 3), correction=0, keepdim=True)
    rest = (x[:, 3:] - x[:, 3:].mean((0, 2, 3), keepdim=True)) / x[:, 3:].std((0, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(output, torch.cat([first, rest], 1), atol=1e-4, rtol=1e-4)


def test_ibn_sits_in_the_first_three_stages_only() -> None:
    base = ResNetBackbone("resnet50_ibn_a").base
    kinds = [{type(block.bn1).__name__ for block in getattr(base, f"layer{i}")} for i in (1, 2, 3, 4)]
    assert kinds == [{"InstanceBatchNorm"}] * 3 + [{"BatchNorm2d"}]


@pytest.mark.parametrize(
    ("name", "file"),
    [("resnet18", "resnet18-f37072fd.pth"), ("resnet50_ibn_a", "resnet50_ibn_a-d9d0bb7b.pth")],
)
def test_imagenet_weights_come_through_torchs_cache(
    name: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    donor = ResNetBackbone(name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save({**donor.base.state_dict(), "fc.weight": torch.ones(1)}, cache / file)
    weights, network = imagenet_weights(name), ReidNetwork(ResNetBackbone(name))
    weights.fill(network)
    state_after = network.backbone.state_dict()
    assert [name for name, tensor in donor.state_dict().items() if not torch.equal(tensor, state_after[name])] == []
    assert tuple(weights.left_out) == ("fc.weight",)
    assert not weights.is_reid_model


def test_without_a_connection_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(resnet, "load_state_dict_from_url", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ReidError, match=r"MODEL\.PRETRAINED True needs .*no route to host.*MODEL\.PRETRAINED False"):
        imagenet_weights("resnet18")
