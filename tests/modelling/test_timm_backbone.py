import sys

import pytest
import torch

from modelling.backbones.catalogue import build_backbone
from modelling.backbones.timm_backbone import TimmBackbone, classifier_names, timm_weights
from utils.errors import ReidError

timm = pytest.importorskip("timm")

NETWORKS = [
    ("resnet18", 512, (2, 1)),
    ("mobilenetv3_small_050", 1024, (2, 1)),
    ("convnext_atto", 320, (2, 1)),
    ("mambaout_femto", 1152, (2, 1)),  # channels last
    ("vit_tiny_patch16_224", 192, (1, 1)),
    ("mixer_s32_224", 512, (1, 1)),  # no class token
]


@pytest.mark.parametrize(("name", "channels", "size"), NETWORKS)
def test_map_and_its_channels_are_found(name: str, channels: int, size: tuple[int, int]) -> None:
    backbone = build_backbone(f"timm:{name}", input_size=(64, 32))
    assert backbone.training
    feature_map = backbone(torch.rand(2, 3, 64, 32))
    assert feature_map.shape == (2, channels, *size)
    assert backbone.out_channels == channels
    assert backbone.pooled == (size == (1, 1))
    feature_map.sum().backward()  # several devices need a gradient for every parameter
    assert [name for name, value in backbone.named_parameters() if value.grad is None] == []


def test_a_vision_transformer_takes_256_by_128() -> None:
    backbone = TimmBackbone("vit_tiny_patch16_224").eval()
    assert backbone.base.pos_embed.shape[1] == 16 * 8 + 1
    with torch.inference_mode():
        images = torch.rand(1, 3, 256, 128)
        class_token = backbone.base.forward_features(images)[:, 0]
        torch.testing.assert_close(backbone(images)[:, :, 0, 0], class_token)


def test_it_is_timms_own_network_without_classifier() -> None:
    reference = timm.create_model("convnext_atto", pretrained=False).eval()
    backbone = TimmBackbone("convnext_atto", (64, 32)).eval()
    without = {name: tensor for name, tensor in reference.state_dict().items() if "head.fc" not in name}
    backbone.base.load_state_dict(without)
    images = torch.rand(2, 3, 64, 32)
    with torch.inference_mode():
        expected = reference.norm_pre(reference.stages(reference.stem(images)))
        torch.testing.assert_close(backbone(images), reference.head.norm(expected))
    assert classifier_names("convnext_atto") == ("head.fc",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convnext_tinny", r"must name a network of timm .*near it: convnext_tiny"),
        ("resnet18.no_such_tag", r"timm:resnet18\.no_such_tag.*no_such_tag"),
        ("nest_tiny", r"cannot be a backbone at 64 x 32 pixels \(.*square.*choose another INPUT.SIZE_TRAIN"),
    ],
)
def test_names_that_cannot_work_are_explained(name: str, message: str) -> None:
    with pytest.raises(ReidError, match=message):
        TimmBackbone(name, (64, 32))


def test_without_timm_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ReidError, match="needs the timm library: pip install timm"):
        build_backbone("timm:convnext_tiny")


def test_pretrained_weights_are_timms(monkeypatch: pytest.MonkeyPatch) -> None:
    create, asked = timm.create_model, []

    def without_download(name: str, *, pretrained: bool, **options: object) -> object:
        asked.append(pretrained)
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", without_download)
    weights = timm_weights("resnet18", (64, 32))
    assert asked == [True]
    assert weights.keys() == TimmBackbone("resnet18", (64, 32)).base.state_dict().keys()


def test_a_failed_download_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(ReidError, match=r"needs timm's weights of resnet18.*no route.*MODEL\.PRETRAINED False"):
        timm_weights("resnet18")
