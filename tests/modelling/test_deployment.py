import pytest
import torch
from torch import nn

from modelling.backbones import BACKBONES, backbone
from modelling.deployment import Embedder, fold_batch_norms
from modelling.network import ReidNetwork
from tests.support import calm_non_local_blocks, randomize_statistics

SIZE = (64, 32)
CPU = torch.device("cpu")


def trained_like(name: str, size: tuple[int, int] = SIZE) -> ReidNetwork:
    """Random weights, and statistics that no layer can ignore."""
    network = ReidNetwork(backbone(name).build(input_size=size))
    randomize_statistics(network)
    calm_non_local_blocks(network)
    return network.eval()


def batch_norms(module: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


# Half of a normalization of another kind; a convolution stem has two.
IN_BLOCKS = {
    "resnet18_ibn_a": 6,
    "resnet34_ibn_a": 13,
    "resnet50_ibn_a": 13,
    "resnet101_ibn_a": 30,
    "resnet152_ibn_a": 47,
}


@pytest.mark.parametrize("name", BACKBONES)
def test_a_folded_network_computes_the_same(name: str) -> None:
    if name.startswith("resnest"):
        pytest.importorskip("timm")
    network = trained_like(name)
    embedder, images = Embedder(network, CPU), torch.randn(2, 3, *SIZE)
    with torch.inference_mode():
        vectors, reference = embedder(images), network(images).bn
    torch.testing.assert_close(vectors, reference, rtol=0, atol=2e-5 * float(reference.abs().max()))
    in_stem = 2 if "_ics" in name else 0
    assert batch_norms(embedder.network) == IN_BLOCKS.get(name.removesuffix("_nl"), in_stem)


# Activations within a normalization; normalizations before convolutions; parallel branches; no convolution at all.
@pytest.mark.parametrize(
    ("name", "left"),
    [("mobilenetv3_small_050", 0), ("resnetv2_50", 17), ("repvgg_a0", 17), ("densenet121", 62), ("vit_tiny_patch16_224", 0)],
)  # fmt: skip
def test_networks_of_timm_fold_what_their_graph_allows(name: str, left: int) -> None:
    pytest.importorskip("timm")
    network = trained_like(f"timm:{name}")
    embedder, images = Embedder(network, CPU), torch.randn(2, 3, *SIZE)
    with torch.inference_mode():
        vectors, reference = embedder(images), network(images).bn
    torch.testing.assert_close(vectors, reference, rtol=0, atol=2e-5 * float(reference.abs().max()))
    assert batch_norms(embedder.network) == left


class Branches(nn.Module):
    """A convolution whose output goes elsewhere too, one that is used twice, and one in an order of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.BatchNorm2d(3) for _ in range(3))
        self.shared, self.twice, self.alone = (nn.Conv2d(3, 3, 1) for _ in range(3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        shared = self.shared(images)
        summed = self.norm1(shared) + shared
        again = self.norm2(self.twice(summed)) + self.twice(images)
        return self.norm3(self.alone(again))


def test_only_a_normalization_that_alone_takes_a_convolution_is_folded() -> None:
    network = Branches().eval()
    for norm in (network.norm1, network.norm2, network.norm3):
        nn.init.uniform_(norm.running_mean)
    images = torch.randn(2, 3, 4, 4)
    reference = network(images)
    fold_batch_norms(network)
    torch.testing.assert_close(network(images), reference)
    assert isinstance(network.norm3, nn.Identity)
    assert batch_norms(network) == 2


def test_the_network_itself_stays_as_it_is() -> None:
    network = trained_like("osnet_x0_25").train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    embedder = Embedder(network, CPU, "bf16")
    embedder(torch.randn(2, 3, *SIZE))
    assert network.training
    assert not embedder.network.training
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
def test_layouts_give_the_same_and_backbone_and_head_their_types(layout: str) -> None:
    network = trained_like("resnet18")
    images = torch.randn(2, 3, *SIZE)
    reference = network(images).bn
    for precision, near in (("fp32", 1e-6), ("bf16", 1e-3)):
        embedder = Embedder(network, CPU, precision, layout)
        with torch.autocast("cpu", dtype=torch.bfloat16):  # of a training in mixed precision
            vectors = embedder(images)
        assert vectors.dtype == torch.float32
        assert (1 - torch.cosine_similarity(vectors, reference)).max() < near
        types = {parameter.dtype for parameter in embedder.network.head.parameters()}
        assert types == {torch.float32}
        weight = next(embedder.network.backbone.parameters())
        assert weight.is_contiguous(memory_format=torch.channels_last) == (layout == "channels_last")


def test_with_flip_a_vector_is_the_mean_of_image_and_mirror_image() -> None:
    network, images = trained_like("resnet18"), torch.randn(2, 3, *SIZE)
    plain, flipping = Embedder(network, CPU), Embedder(network, CPU, flip=True)
    with torch.inference_mode():
        mean = (plain(images) + plain(images.flip(3))) / 2
        torch.testing.assert_close(flipping(images), mean)
        torch.testing.assert_close(flipping(images.flip(3)), mean, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(mean, plain(images), rtol=1e-3)
