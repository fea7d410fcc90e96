from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from modelling.backbones import BACKBONES, Backbone, backbone
from modelling.backbones.osnet import OSNetBackbone
from modelling.backbones.resnet import ResNetBackbone
from modelling.backbones.vit import VITS
from modelling.network import ReidNetwork
from modelling.weights.foreign import imagenet_weights, recognize
from utils.errors import ReidError


class Mine(nn.Module):
    """A network of a user's own."""

    out_channels = 4

    def __init__(self, input_size: tuple[int, int]) -> None:
        super().__init__()
        self.input_size = input_size
        self.base = nn.Conv2d(3, 4, 3, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.base(images)


@pytest.mark.parametrize("name", ["resnet18", "resnet50_ibn_a", "osnet_x0_25", "osnet_ain_x0_5"])
def test_a_name_builds_its_network(name: str) -> None:
    network = backbone(name).build(input_size=(64, 32)).eval()
    with torch.inference_mode():
        shape = network(torch.rand(1, 3, 64, 32)).shape
    assert shape == (1, network.out_channels, 4, 2)
    assert isinstance(network, OSNetBackbone if "osnet" in name else ResNetBackbone)
    assert isinstance(network.base, nn.Module)


def test_a_wrong_name_lists_the_valid_ones_and_the_nearest() -> None:
    with pytest.raises(
        ReidError,
        match=r"one of resnet18, .*timm:NAME, or a network that a --plugin adds, got 'resnet51'; did you mean resnet",
    ):
        backbone("resnet51")
    with pytest.raises(ReidError, match="got 'timm:'"):
        backbone("timm:")
    assert all(backbone(name) is record for name, record in BACKBONES.items())


def test_a_network_of_ones_own_is_one_more_record(monkeypatch: pytest.MonkeyPatch) -> None:
    file = {"weight": torch.rand(4, 3, 3, 3), "classifier.weight": torch.ones(9, 4)}
    record = Backbone(Mine, weights=lambda: file, classifiers=("classifier",))
    monkeypatch.setitem(BACKBONES, "mine", record)
    network = ReidNetwork(backbone("mine").build(input_size=(8, 4)))
    assert network.backbone.input_size == (8, 4)
    plain = recognize(file, Path("mine.pth"), "mine")
    assert plain is not None
    for weights in (imagenet_weights("mine"), plain):
        nn.init.zeros_(network.backbone.base.weight)
        weights.fill(network)
        assert torch.equal(network.backbone.base.weight, file["weight"])
        assert tuple(weights.left_out) == ("classifier.weight",)
        assert (weights.architecture, weights.is_reid_model) == ({"name": "mine"}, False)
    monkeypatch.setitem(BACKBONES, "mine", Backbone(Mine))
    with pytest.raises(ReidError, match=r"no download for mine: give a file .*MODEL\.PRETRAINED False"):
        imagenet_weights("mine")


def test_osnets_have_no_download() -> None:
    with pytest.raises(ReidError, match=r"no download for osnet_x0_5: give torchreid's osnet_x0_5_imagenet"):
        imagenet_weights("osnet_x0_5")


def test_only_networks_of_tokens_take_one_size_only() -> None:
    tokens = {name for name, record in BACKBONES.items() if record.fixed_size}
    assert tokens == {*VITS, "clip_vit_base", "clip_resnet50"}
    pytest.importorskip("timm")
    assert backbone("timm:vit_tiny_patch16_224").fixed_size
    assert not backbone("timm:convnext_atto").fixed_size


def test_the_images_of_imagenet_weights_are_those_of_their_authors() -> None:
    images = backbone("resnet50_ibn_a").preprocessing
    assert (images.mean, images.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    pytest.importorskip("timm")
    images = backbone("timm:vit_tiny_patch16_224").preprocessing
    assert (images.mean, images.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert (images.size, images.interpolation) == ((224, 224), "bicubic")


def test_only_resnets_are_folded_and_run_in_16_bits_unasked() -> None:
    pytest.importorskip("timm")
    for name in (*BACKBONES, "timm:resnet18"):
        record = backbone(name)
        assert record.safe_in_16_bits == (name.startswith("resnet") and not name.endswith("_nl"))
