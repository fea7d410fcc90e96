import pytest
import torch
from torch import nn

from modelling.backbones import catalogue
from modelling.backbones.catalogue import (
    BACKBONE_NAMES,
    build_backbone,
    check_backbone_name,
    imagenet_pixels,
    imagenet_state,
    takes_one_size,
)
from modelling.backbones.osnet import OSNetBackbone
from modelling.backbones.resnet import ResNetBackbone
from utils.errors import ReidError


@pytest.mark.parametrize("name", ["resnet18", "resnet50_ibn_a", "osnet_x0_25", "osnet_ain_x0_5"])
def test_a_name_builds_its_network(name: str) -> None:
    backbone = build_backbone(name, last_stride=1).eval()
    with torch.inference_mode():
        shape = backbone(torch.rand(1, 3, 64, 32)).shape
    assert shape == (1, backbone.out_channels, 4, 2)
    assert isinstance(backbone, OSNetBackbone if "osnet" in name else ResNetBackbone)
    assert isinstance(backbone.base, nn.Module)


def test_options_reach_the_resnet() -> None:
    backbone = build_backbone("resnet18", last_stride=2, stem_relu=False)
    assert isinstance(backbone.base.relu, nn.Identity)
    assert backbone.base.layer4[0].conv1.stride == (2, 2)


def test_windows_of_fast_reids_stem_begin_on_the_map() -> None:
    x = torch.arange(24.0).reshape(1, 1, 4, 6)
    padded, ceil = (build_backbone("resnet18", stem_pool=pool).base.maxpool(x) for pool in ("padded", "ceil"))
    assert padded.tolist() == [[[[7.0, 9.0, 11.0], [19.0, 21.0, 23.0]]]]
    assert ceil.tolist() == [[[[14.0, 16.0, 17.0], [20.0, 22.0, 23.0]]]]


def test_a_wrong_name_lists_the_valid_ones_and_the_nearest() -> None:
    with pytest.raises(ReidError, match=r"one of resnet18, .*timm:NAME, got 'resnet51'; did you mean resnet"):
        build_backbone("resnet51")
    with pytest.raises(ReidError, match="got 'timm:'"):
        check_backbone_name("timm:")
    for name in (*BACKBONE_NAMES, "timm:anything"):
        check_backbone_name(name)


@pytest.mark.parametrize("name", ["osnet_x0_25", "timm:resnet18"])
@pytest.mark.parametrize(
    ("options", "got"),
    [
        ({"stem_relu": False}, "1, False and padded"),
        ({"stem_pool": "ceil"}, "1, True and ceil"),
        ({"last_stride": 2}, "2, True and padded"),
    ],
)
def test_stem_and_stride_of_other_networks_cannot_be_changed(name: str, options: dict[str, object], got: str) -> None:
    with pytest.raises(ReidError, match=rf"MODEL\.LAST_STRIDE, .* belong to a ResNet, got {got} for {name}; leave"):
        build_backbone(name, **options)


def test_imagenet_weights_come_from_where_each_network_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "imagenet_weights", lambda name: {"from torchvision": name})
    monkeypatch.setattr(catalogue, "timm_weights", lambda name, size: {"from timm": (name, size)})
    assert imagenet_state("resnet18") == {"from torchvision": "resnet18"}
    assert imagenet_state("timm:resnet18", (64, 32)) == {"from timm": ("resnet18", (64, 32))}
    with pytest.raises(ReidError, match=r"no download for osnet_x0_5: give torchreid's osnet_x0_5_imagenet"):
        imagenet_state("osnet_x0_5")


def test_only_networks_of_tokens_take_one_size_only() -> None:
    assert not any(takes_one_size(name) for name in BACKBONE_NAMES)
    pytest.importorskip("timm")
    assert takes_one_size("timm:vit_tiny_patch16_224")
    assert not takes_one_size("timm:convnext_atto")
    with pytest.raises(ReidError, match=r"MODEL\.NAME must be one of"):
        takes_one_size("resnet51")


def test_the_pixels_of_imagenet_weights_are_those_of_their_authors() -> None:
    assert imagenet_pixels("resnet50_ibn_a") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    pytest.importorskip("timm")
    assert imagenet_pixels("timm:vit_tiny_patch16_224") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
