"""Files of SOLIDER, CION and LightMBN, made from networks of our own, whose features must come back."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from modelling.backbones import backbone
from modelling.heads import HEADS, AveragePooling
from modelling.network import ReidNetwork
from modelling.weights.foreign import recognize
from modelling.weights.weights import Weights
from tests.modelling.weights.support import State, under
from utils.errors import ReidError

IMAGES = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
DINO_HEAD = {"head.mlp.0.weight": torch.ones(3, 3), "head.last_layer.weight_g": torch.ones(3, 1)}


def network(name: str, head: str = "bnneck", dim: int = 0, retrieval: str = "raw") -> ReidNetwork:
    body = backbone(name).build(input_size=(96, 64))
    whole = ReidNetwork(body, HEADS[head](body, AveragePooling, dim), retrieval).eval()
    for tensor in whole.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.copy_(torch.rand_like(tensor) + 0.2)
    return whole


def vectors(whole: ReidNetwork) -> Tensor:
    with torch.inference_mode():
        return whole.embed(IMAGES)


def reopened(content: dict[str, object], name: str = "") -> tuple[Weights, ReidNetwork]:
    weights = recognize(content, Path("a.pth"), name)
    assert weights is not None
    architecture = weights.architecture
    dim = int(architecture.get("embedding_dim", 0))
    whole = network(
        architecture["name"], architecture.get("head", "bnneck"), dim, architecture.get("retrieval_feature", "raw")
    )
    weights.fill(whole)
    return weights, whole


def fine_tuned(base: State, neck: nn.Module, *, before: bool = True) -> State:
    """A file of TransReID's code; ``before`` = the classifier before the neck."""
    classifier = {"classifier.weight": torch.ones(7, 4)}
    necks = under("bottleneck.", neck.state_dict())
    return {**under("base.", base), **(classifier | necks if before else necks | classifier)}


def solider(whole: ReidNetwork) -> State:
    extra = {"norm0.weight": torch.ones(96), "semantic_embed_w.3.weight": torch.ones(768, 2)}
    index = {"stages.0.blocks.0.attn.w_msa.relative_position_index": torch.zeros(49, 49)}
    return {**whole.backbone.base.state_dict(), **extra, **index}


def cion_swin(whole: ReidNetwork) -> State:
    """The original order of channels: of a square's four tokens one after another, column by column."""
    rules = {
        r"^stages\.": "layers.",
        r"\.attn\.w_msa\.": ".attn.",
        r"\.ffn\.layers\.0\.0\.": ".mlp.fc1.",
        r"\.ffn\.layers\.1\.": ".mlp.fc2.",
        r"^patch_embed\.projection\.": "patch_embed.proj.",
    }
    state = {}
    for name, tensor in whole.backbone.base.state_dict().items():
        if ".downsample." in name:
            places = [
                4 * channel + 2 * row + column
                for column in (0, 1)
                for row in (0, 1)
                for channel in range(tensor.shape[-1] // 4)
            ]
            tensor = tensor[..., places]
        for pattern, replacement in rules.items():
            name = re.sub(pattern, replacement, name)
        state[name] = tensor
    return state


def test_a_fine_tuned_file_of_solider_comes_back() -> None:
    donor = network("swin_tiny_solider")
    weights, receiver = reopened(dict(fine_tuned(solider(donor), donor.head.bn)))
    assert (weights.kind, weights.num_ids) == ("checkpoint of SOLIDER-REID", 7)
    assert torch.equal(vectors(receiver), vectors(donor))
    assert set(weights.left_out) == {"classifier.weight", "base.norm0.weight", "base.semantic_embed_w.3.weight"}


def test_a_reduced_file_of_solider_comes_back() -> None:
    donor = network("swin_tiny_solider", dim=32)
    state = fine_tuned(solider(donor), donor.head.bn) | {"fcneck.weight": donor.head.linear.weight.detach()}
    weights, receiver = reopened(dict(state))
    assert weights.architecture["embedding_dim"] == 32
    assert torch.equal(vectors(receiver), vectors(donor))


@pytest.mark.parametrize("layout", ["teacher", "converted", "stripped"])
def test_a_pretrained_file_of_solider_fills_the_backbone(layout: str) -> None:
    donor = network("swin_tiny_solider")
    student = under("backbone.", {"norm3.weight": torch.zeros(768)})
    teacher = {**under("backbone.", solider(donor)), **DINO_HEAD}
    contents = {"teacher": {"student": student, "teacher": teacher}, "converted": teacher, "stripped": solider(donor)}
    weights, receiver = reopened(contents[layout])
    assert (weights.is_reid_model, weights.architecture) == (False, {"name": "swin_tiny_solider"})
    assert torch.equal(vectors(receiver), vectors(donor))


def test_a_swin_of_another_depth_is_refused() -> None:
    state = {
        name: tensor for name, tensor in solider(network("swin_tiny_solider")).items() if ".2.blocks.5." not in name
    }
    with pytest.raises(
        ReidError, match=r"swin_base_solider.*width 96 with stages of \(2, 2, 5, 2\) blocks and semantic"
    ):
        recognize(state, Path("a.pth"))


@pytest.mark.parametrize("name", ["resnet18", "resnet18_ibn_a", "swin_tiny_cion"])
def test_files_of_cion_come_back(name: str) -> None:
    donor = network(name)
    state = cion_swin(donor) if "swin" in name else donor.backbone.base.state_dict()
    teacher = under("module.", {**under("backbone.", state), **DINO_HEAD})
    weights, receiver = reopened({"student": {"module.backbone.x": torch.ones(1)}, "teacher": teacher})
    assert (weights.is_reid_model, weights.architecture["name"]) == (False, name)
    assert torch.equal(vectors(receiver), vectors(donor))
    weights, receiver = reopened(dict(fine_tuned(state, donor.head.bn)))
    assert "CION" in weights.kind
    assert weights.preprocessing is not None
    assert weights.preprocessing.mean == (0.5, 0.5, 0.5)
    assert torch.equal(vectors(receiver), vectors(donor))


def test_the_order_tells_cion_from_reid_strong_baseline() -> None:
    donor = network("resnet18")
    state = fine_tuned(donor.backbone.base.state_dict(), donor.head.bn, before=False)
    weights = recognize(state, Path("a.pth"))
    assert weights is not None
    assert weights.kind == "checkpoint of reid-strong-baseline"


def test_a_network_of_timm_by_cion_needs_its_name() -> None:
    name = "timm:volo_d1_224"
    donor = network(name)
    teacher = under("module.", {**under("backbone.", donor.backbone.base.state_dict()), **DINO_HEAD})
    weights, receiver = reopened({"teacher": teacher}, name)
    assert not weights.is_reid_model
    assert torch.allclose(vectors(receiver), vectors(donor), atol=1e-5)
    weights, receiver = reopened(dict(fine_tuned(donor.backbone.base.state_dict(), donor.head.bn)), name)
    assert (weights.num_ids, weights.kind) == (7, f"checkpoint of CION ({name})")
    assert torch.allclose(vectors(receiver), vectors(donor), atol=1e-5)
