from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from modelling.backbones import resnet
from modelling.backbones.ibn import InstanceBatchNorm
from modelling.backbones.resnet import ResNetBackbone, imagenet_weights, load_backbone_weights
from modelling.extractor import FeatureExtractor
from modelling.heads import BNNeck
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
    load_backbone_weights(backbone, reference.state_dict(), "a test")
    extractor = FeatureExtractor(backbone).eval()
    images = torch.rand(2, 3, 64, 32)
    reference.fc = nn.Identity()
    with torch.inference_mode():
        torch.testing.assert_close(extractor(images).raw, reference(images))


def test_the_stem_relu_can_be_left_out() -> None:
    with_relu, without = ResNetBackbone("resnet18").eval(), ResNetBackbone("resnet18", stem_relu=False).eval()
    without.load_state_dict(with_relu.state_dict())
    seen: list[torch.Tensor] = []
    without.base.maxpool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(1, 3, 32, 16)
    with torch.inference_mode():
        assert not torch.allclose(with_relu(images), without(images))
    assert float(seen[0].min()) < 0


def test_resnet50_has_the_published_number_of_parameters() -> None:
    assert sum(p.numel() for p in ResNetBackbone("resnet50").parameters()) == 23_508_032


def test_ibn_normalises_the_first_half_by_image_and_the_rest_by_batch() -> None:
    x = torch.randn(4, 7, 5, 3) * 3 + 2
    got = InstanceBatchNorm(7).train()(x)
    first = (x[:, :3] - x[:, :3].mean((2, 3), keepdim=True)) / x[:, :3].std((2, 3), correction=0, keepdim=True)
    rest = (x[:, 3:] - x[:, 3:].mean((0, 2, 3), keepdim=True)) / x[:, 3:].std((0, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(got, torch.cat([first, rest], 1), atol=1e-4, rtol=1e-4)


def test_ibn_sits_in_the_first_three_stages_only() -> None:
    base = ResNetBackbone("resnet50_ibn_a").base
    kinds = [{type(block.bn1).__name__ for block in getattr(base, f"layer{i}")} for i in (1, 2, 3, 4)]
    assert kinds == [{"InstanceBatchNorm"}] * 3 + [{"BatchNorm2d"}]


def test_the_neck_pools_normalises_and_keeps_its_bias_at_zero() -> None:
    neck = BNNeck(5).train()
    feature_map = torch.randn(8, 5, 4, 2) * 2 + 1
    features = neck(feature_map)
    torch.testing.assert_close(features.raw, feature_map.mean((2, 3)))
    torch.testing.assert_close(features.bn.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    assert not neck.bn.bias.requires_grad
    assert neck.bn.weight.requires_grad


def test_the_neck_reduces_before_it_normalises() -> None:
    neck = BNNeck(5, dim=3).train()
    feature_map = torch.randn(8, 5, 4, 2)
    features = neck(feature_map)
    assert neck.dim == 3
    weight = neck.state_dict()["linear.weight"]
    torch.testing.assert_close(features.raw, torch.einsum("ncij,dc->nd", feature_map, weight) / 8)
    centred = features.raw - features.raw.mean(0)
    torch.testing.assert_close(features.bn, centred / (centred.square().mean(0) + 1e-5).sqrt())
    assert {name for name in neck.state_dict() if "linear" in name} == {"linear.weight"}
    assert [name for name in BNNeck(5).state_dict() if "linear" in name] == []
    with torch.autocast("cpu", torch.bfloat16):
        assert neck(feature_map.bfloat16()).bn.dtype == torch.float32


def test_features_are_float32_under_autocast() -> None:
    extractor = FeatureExtractor(ResNetBackbone("resnet18")).eval()
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        features = extractor(torch.rand(2, 3, 32, 16))
    assert features.raw.dtype == features.bn.dtype == torch.float32


@pytest.mark.parametrize("name", ["resnet18", "resnet50_ibn_a"])
def test_imagenet_weights_come_through_torchs_cache(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    donor = ResNetBackbone(name)
    url = (
        resnet._IBN_FILES[name]
        if name in resnet._IBN_FILES
        else torchvision.models.get_model_weights(name).IMAGENET1K_V1.url
    )
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save({**donor.base.state_dict(), "fc.weight": torch.ones(1)}, cache / url.rpartition("/")[2])
    backbone = ResNetBackbone(name)
    load_backbone_weights(backbone, imagenet_weights(name), "the cache")
    assert all(
        torch.equal(a, b) for a, b in zip(backbone.state_dict().values(), donor.state_dict().values(), strict=True)
    )


def test_without_a_connection_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(resnet, "load_state_dict_from_url", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ReidError, match=r"MODEL\.PRETRAINED True needs .*no route to host.*MODEL\.PRETRAINED False"):
        imagenet_weights("resnet18")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("conv1.weight"), "conv1.weight is missing"),
        (lambda s: s.update(extra=torch.ones(1)), "extra is unknown"),
        (lambda s: s.update({"bn1.bias": torch.ones(3)}), r"bn1.bias has shape \(3,\) instead of \(64,\)"),
    ],
)
def test_weights_that_do_not_fit_are_named(change: object, message: str) -> None:
    state = ResNetBackbone("resnet18").base.state_dict()
    change(state)  # type: ignore[operator]
    with pytest.raises(ReidError, match=rf"x\.pth does not fit the network of MODEL\.NAME: {message}"):
        load_backbone_weights(ResNetBackbone("resnet18"), state, "x.pth")
