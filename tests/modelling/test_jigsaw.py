"""The head of TransReID, beside its definition written out."""

import copy

import pytest
import torch
from torch import Tensor

pytest.importorskip("timm")

from modelling.backbones import backbone
from modelling.heads import HEADS, AveragePooling, Head, JigsawHead
from modelling.network import ReidNetwork
from utils.errors import ReidError


def jpm(name: str = "vit_tiny", dim: int = 0, **options: object) -> tuple[torch.nn.Module, Head]:
    body = backbone(name).build(input_size=(48, 48), **options)
    return body, HEADS["jpm"](body, AveragePooling, dim)


@torch.inference_mode()
def test_parts_are_groups_of_shifted_and_interleaved_patches() -> None:
    """Of nine patches, an odd number, the last but one counts twice."""
    body, head = jpm()
    head.eval()
    tokens: Tensor = body.eval()(torch.randn(2, 3, 48, 48))
    assert tokens.shape == (2, 10, 192)
    shifted = [5, 6, 7, 8, 9, 1, 2, 3, 4, 3]
    order = [row for pair in zip(shifted[:5], shifted[5:], strict=True) for row in pair]
    branches = head.branches
    assert branches is not None
    vectors = [branches["whole"](tokens)[:, 0]]  # type: ignore[index]
    for part in range(4):
        rows = [0, *order[2 * part : 2 * part + 2]]
        vectors.append(branches["part"](tokens[:, rows])[:, 0])  # type: ignore[index]
    expected = torch.cat(vectors, dim=1)
    features = head(tokens)
    torch.testing.assert_close(features.raw, expected, rtol=0, atol=1e-5)
    scaled = head.scaled(features.raw)
    assert torch.equal(scaled[:, :192], features.raw[:, :192])
    assert torch.equal(scaled[:, 192:], features.raw[:, 192:] / 4)


def test_the_head_takes_the_last_block_and_all_its_layers_learn() -> None:
    body, head = jpm()
    assert (len(body.base.blocks), head.parts, head.dim) == (11, (192,) * 5, 960)  # type: ignore[union-attr, arg-type]
    network = ReidNetwork(body, head, "raw")
    features = network(torch.randn(4, 3, 48, 48))
    sum(vectors.square().sum() for vectors in features).backward()  # type: ignore[union-attr]
    without = [name for name, tensor in network.named_parameters() if tensor.grad is None]
    assert without == ["head.bn.bias"]  # frozen
    assert network.trunk == (body, head.branches)


@torch.inference_mode()
def test_both_copies_begin_as_the_last_layers_of_a_backbone() -> None:
    whole = backbone("vit_tiny").build(input_size=(48, 48)).eval()
    state = {f"backbone.base.{name}": tensor for name, tensor in whole.base.state_dict().items()}
    body, head = jpm()
    network = ReidNetwork(body, head, "raw").eval()
    missing = network.load_state_dict(dict(head.adopt(state)), strict=False)
    assert {name.rpartition(".")[0] for name in missing.missing_keys} == {"head.bn"}
    assert missing.unexpected_keys == []
    images = torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(network.embed(images)[:, :192], whole(images)[:, :, 0, 0], rtol=0, atol=1e-5)


def test_a_copied_network_still_has_its_branches() -> None:
    body, head = jpm()
    twin = copy.deepcopy(ReidNetwork(body, head))
    assert isinstance(twin.head, JigsawHead)
    assert twin.trunk[1] is twin.head.branches


def test_other_networks_and_a_dimension_are_refused() -> None:
    with pytest.raises(ReidError, match=r"MODEL\.HEAD jpm needs a vision transformer with one class token"):
        HEADS["jpm"](backbone("resnet18").build(), AveragePooling, 0)
    with pytest.raises(ReidError, match=r"MODEL\.HEAD jpm needs a vision transformer with one class token"):
        jpm("vit_tiny_pass")
    with pytest.raises(ReidError, match=r"five times the channels .*MODEL\.EMBEDDING_DIM 64"):
        jpm(dim=64)
