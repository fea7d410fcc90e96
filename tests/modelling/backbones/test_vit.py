"""Vision transformers: beside timm's, beside formulas, and fitted to other images and cameras."""

import pytest
import torch
from torch import Tensor, nn

timm = pytest.importorskip("timm")

from modelling.backbones import backbone  # noqa: E402
from modelling.backbones.positions import grid_of, size_and_stride  # noqa: E402
from modelling.backbones.vit import ARCHITECTURES, VITS, VisionTransformerBackbone, fit  # noqa: E402
from utils.errors import ReidError  # noqa: E402

SIZE = (64, 32)


def build(name: str = "vit_tiny", size: tuple[int, int] = SIZE, **options: object) -> VisionTransformerBackbone:
    network = backbone(name).build(input_size=size, **options).eval()
    assert isinstance(network, VisionTransformerBackbone)
    for parameter in network.parameters():  # zeros would hide mistakes
        nn.init.normal_(parameter, std=0.05)
    return network


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, *SIZE)


@torch.inference_mode()
def test_the_plain_networks_are_timms(images: Tensor) -> None:
    network = build()
    theirs = timm.create_model("vit_tiny_patch16_224", img_size=SIZE, num_classes=0).eval()
    theirs.load_state_dict(network.base.state_dict())
    torch.testing.assert_close(network(images)[:, :, 0, 0], theirs(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", VITS)
def test_each_network_gives_vectors_and_learns(name: str) -> None:
    row = ARCHITECTURES[name]
    if row.width > 384:
        pytest.skip("too large for a test")
    network = backbone(name).build(input_size=SIZE, cameras=2, drop_path=0.1).train()
    output = network(torch.randn(2, 3, *SIZE), torch.tensor([1, -1]))
    assert output.shape == (2, network.out_channels, 1, 1)
    assert network.out_channels == row.width * (2 if row.part_tokens else 1)
    output.square().sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


@torch.inference_mode()
def test_the_attention_of_transreids_small_network_has_its_own_scale() -> None:
    network = VisionTransformerBackbone(ARCHITECTURES["vit_small_transreid"]._replace(depth=1), SIZE).eval()
    attention, tokens = network.base.blocks[0].attn, torch.randn(1, 5, 768)
    query, key, value = attention.qkv(tokens).view(5, 3, 8, 96).permute(1, 2, 0, 3)
    mixed = (query @ key.transpose(1, 2) * 768**-0.5).softmax(-1) @ value
    expected = attention.proj(mixed.transpose(0, 1).reshape(1, 5, 768))
    torch.testing.assert_close(attention(tokens), expected, rtol=0, atol=1e-5)
    assert attention.qkv.bias is None


@pytest.mark.parametrize(("stride", "grid"), [(16, (16, 8)), (12, (21, 10)), (11, (22, 11))])
def test_patches_overlap_by_the_stride(stride: int, grid: tuple[int, int]) -> None:
    assert grid_of((256, 128), stride) == grid
    network = build(size=(256, 128), patch_stride=stride)
    assert network.base.pos_embed.shape == (1, 1 + grid[0] * grid[1], 192)
    image = torch.randn(1, 3, 256, 128)
    patches = network.base.patch_embed(image).unflatten(1, grid)
    corner = image[:, :, 2 * stride : 2 * stride + 16, 3 * stride : 3 * stride + 16]
    torch.testing.assert_close(patches[:, 2, 3], network.base.patch_embed.proj(corner).flatten(1), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_an_unknown_camera_is_the_mean_of_the_table(images: Tensor) -> None:
    network, plain = build(cameras=3), build()
    shared = {name: tensor for name, tensor in network.base.state_dict().items() if name != "sie_embed"}
    table = network.base.sie_embed

    def expected(vector: Tensor, rows: slice) -> Tensor:
        plain.base.load_state_dict({**shared, "pos_embed": shared["pos_embed"] + 3 * vector})
        return plain(images[rows])

    output = network(images, torch.tensor([2, -1, 0]))
    for row, vector in enumerate((table[2], table.mean(0), table[0])):
        torch.testing.assert_close(output[row : row + 1], expected(vector, slice(row, row + 1)), rtol=0, atol=1e-5)
    torch.testing.assert_close(network(images), expected(table.mean(0), slice(0, 3)), rtol=0, atol=1e-5)


def test_drop_path_acts_in_training_only(images: Tensor) -> None:
    network = build(drop_path=0.9)
    with torch.inference_mode():
        assert torch.equal(network(images), network(images))
        assert not torch.equal(network.train()(images), network(images))


def test_the_usual_sizes_are_told_by_their_number_of_patches() -> None:
    for size in ((256, 128), (384, 128), (256, 256), (224, 224)):
        for stride in (16, 12, 11):
            rows, columns = grid_of(size, stride)
            assert size_and_stride(rows * columns) == (size, stride)
    assert size_and_stride(50) == ((160, 80), 16)
    assert [size_and_stride(patches) for patches in (7, 0, -1)] == [None] * 3


@torch.inference_mode()
def test_position_embeddings_are_resized_bilinearly() -> None:
    donor, network = build(size=(256, 128)), build(size=(384, 128), patch_stride=12)
    old = donor.base.state_dict()["pos_embed"]
    fitted = fit(network.base, donor.base.state_dict())
    assert torch.equal(fitted["pos_embed"][:, 0], old[:, 0])
    grid = old[0, 1:].T.reshape(1, 192, 16, 8)
    expected = nn.functional.interpolate(grid, size=(31, 10), mode="bilinear")
    assert torch.equal(fitted["pos_embed"][0, 1:].T.reshape(1, 192, 31, 10), expected)
    network.base.load_state_dict(fitted)
    same = fit(donor.base, donor.base.state_dict())
    assert torch.equal(same["pos_embed"], old)
    odd = {**donor.base.state_dict(), "pos_embed": old[:, :8]}
    with pytest.raises(ReidError, match=r"embeddings of 7 patches, .*set INPUT\.SIZE_TRAIN"):
        fit(network.base, odd)


@torch.inference_mode()
def test_a_camera_table_is_fitted_to_other_cameras(images: Tensor) -> None:
    donor = build(cameras=3)
    without, more = build(), build(cameras=5)
    for network in (without, more):
        network.base.load_state_dict(fit(network.base, donor.base.state_dict()))
        torch.testing.assert_close(network(images), donor(images), rtol=0, atol=1e-5)
    assert torch.equal(more.base.sie_embed[4], donor.base.sie_embed.mean(0))
    own = more.base.sie_embed.clone()
    assert torch.equal(fit(more.base, without.base.state_dict())["sie_embed"], own)


@torch.inference_mode()
def test_a_distillation_token_is_dropped(images: Tensor) -> None:
    theirs = timm.create_model("deit_tiny_distilled_patch16_224", img_size=SIZE)
    state, network = theirs.state_dict(), build()
    fitted = {name: tensor for name, tensor in fit(network.base, state).items() if not name.startswith("head")}
    network.base.load_state_dict(fitted)
    assert torch.equal(fitted["pos_embed"][:, 0], state["pos_embed"][:, 0])
    assert torch.equal(fitted["pos_embed"][:, 1:], state["pos_embed"][:, 2:])
    assert network(images).isfinite().all()


def test_images_smaller_than_a_patch_are_refused() -> None:
    with pytest.raises(ReidError, match=r"INPUT\.SIZE_TRAIN must be 16 pixels at least .*\[64, 8\]"):
        build(size=(64, 8))
