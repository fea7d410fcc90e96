"""The image towers of CLIP; the goldens compare their numbers with the project's own code."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelling.backbones import backbone
from modelling.backbones.clip_vit import ClipViTBackbone, SelfAttention
from modelling.backbones.positions import grid_of, size_and_stride
from modelling.network import ReidNetwork
from modelling.weights.foreign import recognize
from utils.errors import ReidError

SMALL = (64, 32)
CHANNELS = {"clip_vit_base": 1280, "clip_resnet50": 3072}


@pytest.fixture(scope="module")
def vit() -> ClipViTBackbone:
    torch.manual_seed(0)
    return ClipViTBackbone(SMALL, cameras=3).eval()


@pytest.mark.parametrize(("name", "channels"), CHANNELS.items())
def test_every_parameter_of_a_tower_learns(name: str, channels: int, images: Tensor) -> None:
    network = ReidNetwork(backbone(name).build(input_size=SMALL)).train()
    assert network.backbone(images).shape == (3, channels, 1, 1)
    network(images).raw.square().sum().backward()
    assert [name for name, value in network.backbone.named_parameters() if value.grad is None] == []


def test_parameters_are_those_of_the_published_towers() -> None:
    for name, millions in (("clip_vit_base", 86.14), ("clip_resnet50", 38.48)):
        network = backbone(name).build(input_size=(256, 128))
        assert sum(value.numel() for value in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_attention_is_that_of_torch() -> None:
    own, torchs = SelfAttention(128), nn.MultiheadAttention(128, 2, batch_first=True)
    nn.init.normal_(own.in_proj_weight)
    torchs.load_state_dict(own.state_dict())
    tokens = torch.randn(2, 5, 128)
    torch.testing.assert_close(own(tokens), torchs(tokens, tokens, tokens, need_weights=False)[0])


def test_a_camera_moves_the_features_and_an_unknown_one_is_the_mean(vit: ClipViTBackbone, images: Tensor) -> None:
    with torch.inference_mode():
        first, second, mean = (vit(images, torch.tensor([camera] * 3)) for camera in (0, 1, -1))
        mixed = vit(images, torch.tensor([0, -1, 1]))
        assert not torch.allclose(first, second, atol=1e-3)
        torch.testing.assert_close(mixed, torch.stack([first[0], mean[1], second[2]]))
        torch.testing.assert_close(vit(images), mean)


def test_a_camera_is_added_to_the_class_token_alone(vit: ClipViTBackbone, images: Tensor) -> None:
    plain = ClipViTBackbone(SMALL).eval()
    state = {name: tensor for name, tensor in vit.base.state_dict().items() if name != "cv_embed"}
    plain.base.load_state_dict({**state, "class_embedding": state["class_embedding"] + vit.base.cv_embed[2]})
    with torch.inference_mode():
        torch.testing.assert_close(plain(images), vit(images, torch.tensor([2, 2, 2])))


def test_patches_overlap_with_a_smaller_stride() -> None:
    network = backbone("clip_vit_base").build(input_size=(256, 128), patch_stride=12)
    assert network.base.grid == (21, 10)
    assert network.base.positional_embedding.shape == (1 + 21 * 10, 768)
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 256, 128)).shape == (1, 1280, 1, 1)


def test_an_image_smaller_than_a_patch_is_refused() -> None:
    with pytest.raises(ReidError, match=r"must be 16 pixels at least for a ViT, got \[8, 32\]"):
        backbone("clip_vit_base").build(input_size=(8, 32))


def test_the_number_of_patches_tells_a_usual_input() -> None:
    for size, stride in (((256, 128), 16), ((256, 128), 12), ((384, 128), 16), ((224, 224), 16), ((256, 256), 12)):
        rows, columns = grid_of(size, stride)
        assert size_and_stride(rows * columns) == (size, stride)
    assert size_and_stride(7) is None


def filled(name: str, state: dict[str, Tensor], **options: int) -> nn.Module:
    """A network of 64 x 32 pixels filled with the image tower of a whole CLIP."""
    tower = {f"visual.{key}": value for key, value in state.items()}
    text = {"positional_embedding": torch.ones(77, 512), "transformer.resblocks.0.ln_1.bias": torch.ones(512)}
    weights = recognize({**tower, **text, "logit_scale": torch.tensor(4.6)}, Path("clip.pth"))
    assert weights is not None
    assert (weights.kind, weights.architecture, weights.is_reid_model) == (
        "image tower of CLIP",
        {"name": name},
        False,
    )
    assert weights.left_out.keys() == {*text, "logit_scale"}
    network = ReidNetwork(backbone(name).build(input_size=SMALL, **options))
    weights.fill(network)
    return network.backbone


@pytest.mark.parametrize(
    ("name", "positions", "grid"),
    [("clip_vit_base", "positional_embedding", 14), ("clip_resnet50", "attnpool.positional_embedding", 7)],
)
def test_openais_tower_is_fitted_to_the_input(name: str, positions: str, grid: int) -> None:
    state = dict(backbone(name).build(input_size=(grid * 16, grid * 16)).base.state_dict())
    ours = filled(name, state).base.state_dict()
    squares = state[positions][1:].T.reshape(1, -1, grid, grid)
    small = F.interpolate(squares, (4, 2), mode="bilinear").flatten(2)[0].T
    torch.testing.assert_close(ours[positions], torch.cat([state[positions][:1], small]))
    assert all(torch.equal(ours[key], value) for key, value in state.items() if key != positions)


def test_cameras_of_a_file_become_those_of_the_network(vit: ClipViTBackbone) -> None:
    state = dict(vit.base.state_dict())
    mean = state["cv_embed"].mean(0)
    others = filled("clip_vit_base", state, cameras=5).base.cv_embed
    torch.testing.assert_close(others, mean.expand(5, -1))
    assert torch.equal(filled("clip_vit_base", state, cameras=3).base.cv_embed, state["cv_embed"])
    torch.testing.assert_close(filled("clip_vit_base", state).base.class_embedding, state["class_embedding"] + mean)
    own = filled("clip_vit_base", {key: value for key, value in state.items() if key != "cv_embed"}, cameras=2)
    assert own.base.cv_embed.std() > 0


def test_positions_of_no_usual_input_name_file_and_family(vit: ClipViTBackbone) -> None:
    state = {**vit.base.state_dict(), "positional_embedding": torch.ones(8, 768)}
    with pytest.raises(ReidError, match=r"clip\.pth \(image tower of CLIP\) does not fit: .* 7 patches"):
        filled("clip_vit_base", state, cameras=3)
