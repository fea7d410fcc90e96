import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from modelling.backbones import backbone
from modelling.backbones.timm_backbone import TimmBackbone
from modelling.weights.foreign import imagenet_weights, recognize
from utils.errors import ReidError

timm = pytest.importorskip("timm")

FILE = Path("vit.pth")

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
    network = backbone(f"timm:{name}").build(input_size=(64, 32))
    assert network.training
    feature_map = network(torch.rand(2, 3, 64, 32))
    assert feature_map.shape == (2, channels, *size)
    assert network.out_channels == channels
    assert network.pooled == (size == (1, 1))
    feature_map.sum().backward()  # several devices need a gradient for every parameter
    assert [name for name, value in network.named_parameters() if value.grad is None] == []


def test_a_vision_transformer_takes_256_by_128() -> None:
    network = TimmBackbone("vit_tiny_patch16_224").eval()
    assert network.base.pos_embed.shape[1] == 16 * 8 + 1
    with torch.inference_mode():
        images = torch.rand(1, 3, 256, 128)
        class_token = network.base.forward_features(images)[:, 0]
        torch.testing.assert_close(network(images)[:, :, 0, 0], class_token)


def test_it_is_timms_own_network_without_classifier() -> None:
    reference = timm.create_model("convnext_atto", pretrained=False).eval()
    network = TimmBackbone("convnext_atto", (64, 32)).eval()
    without = {name: tensor for name, tensor in reference.state_dict().items() if "head.fc" not in name}
    network.base.load_state_dict(without)
    images = torch.rand(2, 3, 64, 32)
    with torch.inference_mode():
        feature_map = reference.norm_pre(reference.stages(reference.stem(images)))
        torch.testing.assert_close(network(images), reference.head.norm(feature_map))
    assert backbone("timm:convnext_atto").classifiers == ("head.fc",)


def test_a_local_file_of_a_vision_transformer_is_fitted_to_the_input(network: type) -> None:
    file = timm.create_model("test_vit", pretrained=False).state_dict()  # 160 x 160, patches of 16
    weights = recognize(file, FILE, "timm:test_vit")
    assert weights is not None
    receiver = network("timm:test_vit", "fresh")  # 64 x 32
    weights.fill(receiver)
    state = receiver.backbone.base.state_dict()
    assert state["pos_embed"].shape == (1, 1 + 4 * 2, 64)
    grid = file["pos_embed"][:, 1:].reshape(1, 10, 10, 64).permute(0, 3, 1, 2)
    small = F.interpolate(grid, (4, 2), mode="bicubic", antialias=True).flatten(2).mT
    torch.testing.assert_close(state["pos_embed"], torch.cat([file["pos_embed"][:, :1], small], dim=1))
    others = state.keys() - {"pos_embed"}
    assert others == file.keys() - {"pos_embed", "head.weight", "head.bias"}
    assert all(torch.equal(state[name], file[name]) for name in others)


def test_an_old_file_gets_todays_names_and_loses_its_classifier() -> None:
    record = backbone("timm:swin_tiny_patch4_window7_224")
    network = record.build(input_size=(64, 32))
    new = timm.create_model("swin_tiny_patch4_window7_224", pretrained=False).state_dict()
    old = {name.replace("head.fc.", "head."): tensor for name, tensor in new.items()}
    for stage in (1, 2, 3):  # they counted a downsampling to the stage before it
        for name in [name for name in old if name.startswith(f"layers.{stage}.downsample.")]:
            old[name.replace(f"layers.{stage}.", f"layers.{stage - 1}.", 1)] = old.pop(name)
    fitted = record.fit(network.base, old)
    assert network.base.load_state_dict(fitted) is not None  # strict
    assert torch.equal(fitted["layers.1.downsample.norm.weight"], new["layers.1.downsample.norm.weight"])


def test_the_normalization_beside_a_classifier_is_left_out_with_it(network: type) -> None:
    file = timm.create_model("repvit_m1", pretrained=False).state_dict()
    assert "head.head.bn.weight" in file
    weights = recognize(file, FILE, "timm:repvit_m1")
    assert weights is not None
    receiver = network("timm:repvit_m1", "fresh")
    weights.fill(receiver)
    assert torch.equal(receiver.backbone.base.state_dict()["stem.conv1.c.weight"], file["stem.conv1.c.weight"])


def test_timm_sees_the_whole_file(network: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of its versions tell old files of a network from new ones by the classifier."""
    module = sys.modules[type(timm.create_model("test_vit")).__module__]
    plain, files = module.checkpoint_filter_fn, []

    def spy(state: dict[str, torch.Tensor], model: torch.nn.Module) -> dict[str, torch.Tensor]:
        files.append(set(state))
        return plain(state, model)

    monkeypatch.setattr(module, "checkpoint_filter_fn", spy)
    file = timm.create_model("test_vit", pretrained=False).state_dict()
    weights = recognize(file, FILE, "timm:test_vit")
    assert weights is not None
    weights.fill(network("timm:test_vit", "fresh"))
    assert files == [set(file)]


def test_a_file_of_another_network_is_left_for_the_check_of_its_tensors(network: type) -> None:
    weights = recognize({"patch_embed.proj.weight": torch.ones(3), "pos_embed": torch.ones(2)}, FILE, "timm:test_vit")
    assert weights is not None
    with pytest.raises(ReidError, match=r"vit\.pth \(plain timm:test_vit backbone\) does not fit .*is missing"):
        weights.fill(network("timm:test_vit", "fresh"))


def test_the_share_of_the_map_below_zero_is_found() -> None:
    assert TimmBackbone("resnet18", (64, 32)).negative == 0  # ends in a ReLU
    assert 0.3 < TimmBackbone("convnext_atto", (64, 32)).negative < 0.7  # ends in a layer normalization


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
        backbone(f"timm:{name}").build(input_size=(64, 32))


def test_without_timm_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ReidError, match="needs the timm library: pip install timm"):
        backbone("timm:convnext_tiny")


def test_imagenet_weights_are_timms_fitted_to_the_input(monkeypatch: pytest.MonkeyPatch, network: type) -> None:
    create = timm.create_model
    donor = create("test_vit", pretrained=False)

    def without_download(name: str, *, pretrained: bool, **options: object) -> object:
        return donor if pretrained else create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", without_download)
    receiver = network("timm:test_vit", "fresh")
    weights = imagenet_weights("timm:test_vit")
    weights.fill(receiver)
    state = receiver.backbone.base.state_dict()
    assert torch.equal(state["norm.weight"], donor.norm.weight)
    assert state["pos_embed"].shape == (1, 1 + 4 * 2, 64)
    assert tuple(weights.left_out) == ("head.weight", "head.bias")


def test_a_failed_download_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(ReidError, match=r"needs timm's weights of resnet18.*no route.*MODEL\.PRETRAINED False"):
        imagenet_weights("timm:resnet18")
