import sys

import pytest
import torch
from torch.nn import functional as F

from modelling.backbones.catalogue import build_backbone
from modelling.backbones.timm_backbone import TimmBackbone, classifier_names, fitted_weights, timm_weights
from modelling.foreign import load_foreign, recognise
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


def test_a_local_file_of_a_vision_transformer_is_fitted_to_the_input(network: type) -> None:
    file = timm.create_model("test_vit", pretrained=False).state_dict()  # 160 x 160, patches of 16
    weights = recognise(file, "timm:test_vit")
    assert weights is not None
    receiver = network("timm:test_vit", "fresh")  # 64 x 32
    load_foreign(receiver, weights, "vit.pth")
    filled = receiver.backbone.base.state_dict()
    assert filled["pos_embed"].shape == (1, 1 + 4 * 2, 64)
    grid = file["pos_embed"][:, 1:].reshape(1, 10, 10, 64).permute(0, 3, 1, 2)
    small = F.interpolate(grid, (4, 2), mode="bicubic", antialias=True).flatten(2).mT
    torch.testing.assert_close(filled["pos_embed"], torch.cat([file["pos_embed"][:, :1], small], dim=1))
    others = filled.keys() - {"pos_embed"}
    assert others == file.keys() - {"pos_embed", "head.weight", "head.bias"}
    assert all(torch.equal(filled[name], file[name]) for name in others)


def test_an_old_file_of_the_authors_gets_todays_names_and_loses_its_classifier() -> None:
    backbone = TimmBackbone("swin_tiny_patch4_window7_224", (64, 32))
    new = timm.create_model("swin_tiny_patch4_window7_224", pretrained=False).state_dict()
    old = {name.replace("head.fc.", "head."): tensor for name, tensor in new.items()}
    for stage in (1, 2, 3):  # they counted a downsampling to the stage before it
        for name in [name for name in old if name.startswith(f"layers.{stage}.downsample.")]:
            old[name.replace(f"layers.{stage}.", f"layers.{stage - 1}.", 1)] = old.pop(name)
    fitted = fitted_weights("swin_tiny_patch4_window7_224", backbone.base, old)
    assert backbone.base.load_state_dict(fitted) is not None  # strict
    assert torch.equal(fitted["layers.1.downsample.norm.weight"], new["layers.1.downsample.norm.weight"])


def test_timm_sees_the_whole_file(network: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of its versions tell old files of a network from new ones by the classifier."""
    module = sys.modules[type(timm.create_model("test_vit")).__module__]
    plain, seen = module.checkpoint_filter_fn, []

    def spy(state: dict[str, torch.Tensor], model: torch.nn.Module) -> dict[str, torch.Tensor]:
        seen.append(set(state))
        return plain(state, model)

    monkeypatch.setattr(module, "checkpoint_filter_fn", spy)
    file = timm.create_model("test_vit", pretrained=False).state_dict()
    weights = recognise(file, "timm:test_vit")
    assert weights is not None
    load_foreign(network("timm:test_vit", "fresh"), weights, "vit.pth")
    assert seen == [set(file)]


def test_a_file_of_another_network_is_left_for_the_check_of_its_tensors(network: type) -> None:
    weights = recognise({"patch_embed.proj.weight": torch.ones(3), "pos_embed": torch.ones(2)}, "timm:test_vit")
    assert weights is not None
    with pytest.raises(ReidError, match=r"a file \(plain timm:test_vit backbone\) does not fit .*is missing"):
        load_foreign(network("timm:test_vit", "fresh"), weights, "a file")


def test_the_share_of_the_map_below_zero_is_found() -> None:
    assert TimmBackbone("resnet18", (64, 32)).negative == 0  # ends in a ReLU
    assert 0.3 < TimmBackbone("convnext_atto", (64, 32)).negative < 0.7  # ends in a layer normalisation


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convnext_tinny", r"must name a network of timm .*did you mean convnext_tiny"),
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
