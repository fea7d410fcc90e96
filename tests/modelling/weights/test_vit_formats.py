"""Each format of a vision transformer is made from a network of our own, whose features must come back."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("timm")

from engine.model import TrainedModel, load_model
from engine.settings import Settings
from modelling.weights.file import read_content
from modelling.weights.foreign import recognize
from tests.modelling.weights.support import FILE, Twin, filled, under
from utils.errors import ReidError

State = dict[str, Tensor]
_NECK = ("weight", "bias", "running_mean", "running_var")


def base(network: nn.Module, prefix: str = "base.") -> State:
    """The network as TransReID and PASS name it."""
    state: State = dict(network.backbone.base.state_dict())
    if "reg_token" in state:
        parts, positions = state.pop("reg_token"), state["pos_embed"]
        state |= {f"part_token{number}": parts[:, number - 1 : number] for number in (1, 2, 3)}
        state |= {f"part{number}_pos": positions[:, number : number + 1] for number in (1, 2, 3)}
        state |= {"cls_pos": positions[:, :1], "pos_embed": positions[:, 4:]}
    return under(prefix, state)


def transreid(network: nn.Module, ids: int = 7) -> State:
    """As TransReID, PersonViT and PASS with one neck save a fine-tuned network."""
    head = network.head.state_dict()
    necks = {f"bottleneck.{name}": head[f"bn.{name}"] for name in _NECK}
    extra = {"base.fc.weight": torch.ones(1000, 192), "base.fc.bias": torch.ones(1000)}
    return {**base(network), **necks, "classifier.weight": torch.ones(ids, len(head["bn.weight"])), **extra}


def jigsaw(network: nn.Module) -> State:
    """With JPM, whose file also has the last layers that nothing uses."""
    head = network.head.state_dict()
    branches = {
        name.replace("branches.whole.", "b1.").replace("branches.part.", "b2."): tensor
        for name, tensor in head.items()
        if name.startswith("branches.")
    }
    dead = {name.replace("b1.0.", "base.blocks.11."): t for name, t in branches.items() if name.startswith("b1.0.")}
    dead |= {name.replace("b1.1.", "base.norm."): t for name, t in branches.items() if name.startswith("b1.1.")}
    necks = {}
    for part, ending in enumerate(("", "_1", "_2", "_3", "_4")):
        for name in _NECK:
            necks[f"bottleneck{ending}.{name}"] = head[f"bn.{name}"].chunk(5)[part]
        necks[f"bottleneck{ending}.num_batches_tracked"] = torch.tensor(0)
        necks[f"classifier{ending}.weight"] = torch.ones(7, 192)
    return {**base(network), **dead, **branches, **necks}


def fast_reid(network: nn.Module) -> State:
    head = network.head.state_dict()
    necks = {f"heads.bottleneck.0.{name}": head[f"bn.{name}"] for name in _NECK}
    return {**base(network, "backbone."), **necks, "heads.weight": torch.ones(7, 192)}


def reduced_fast_reid(network: nn.Module) -> State:
    """With a convolution before the neck."""
    head = network.head.state_dict()
    necks = {f"heads.bottleneck.1.{name}": head[f"bn.{name}"] for name in _NECK}
    convolution = {"heads.bottleneck.0.weight": head["linear.weight"][:, :, None, None]}
    return {**base(network, "backbone."), **convolution, **necks, "heads.weight": torch.ones(7, 64)}


CASES: list[tuple[str, str, str, dict[str, object], Callable[[nn.Module], State], str, str]] = [
    ("TransReID", "vit_tiny", "bnneck", {}, transreid, "raw", ""),
    ("TransReID", "vit_small", "bnneck", {"cameras": 6}, transreid, "raw", "module."),
    ("TransReID", "vit_tiny_ics", "bnneck", {}, transreid, "raw", ""),
    ("TransReID with its jigsaw head", "vit_tiny", "jpm", {"cameras": 3}, jigsaw, "raw", "module."),
    ("PASS", "vit_tiny_pass", "bnneck", {}, transreid, "raw", ""),
    ("PASS", "vit_tiny_ics_pass", "bnneck", {}, transreid, "raw", "module."),
    ("fast-reid (ViT)", "vit_tiny", "bnneck", {}, fast_reid, "bn", ""),
    ("fast-reid (ViT)", "vit_tiny", "bnneck", {"dim": 64}, reduced_fast_reid, "bn", ""),
]


@pytest.mark.parametrize(("kind", "name", "head", "options", "rename", "feature", "prefix"), CASES)
def test_features_of_a_fine_tuned_file_come_back(
    kind: str,
    name: str,
    head: str,
    options: dict[str, object],
    rename: Callable[[nn.Module], State],
    feature: str,
    prefix: str,
    network: type,
    twin_of: Twin,
    images: Tensor,
) -> None:
    donor = network(name, head, **options)
    weights = recognize(under(prefix, rename(donor)), FILE)
    assert weights is not None
    assert kind in weights.kind
    assert (weights.num_ids, weights.architecture["name"], weights.architecture["head"]) == (7, name, head)
    assert weights.architecture.get("retrieval_feature", "bn") == feature
    assert weights.architecture["cameras"] == options.get("cameras", 0)
    assert weights.preprocessing is not None
    assert weights.preprocessing.mean == weights.preprocessing.std == (0.5, 0.5, 0.5)
    assert weights.preprocessing.interpolation == ("bicubic" if feature == "bn" else "bilinear")
    receiver = twin_of(weights)
    weights.fill(receiver)
    cameras = torch.tensor([2, 0, -1])
    ours, theirs = receiver(images, cameras), donor(images, cameras)
    assert torch.equal(ours.raw, theirs.raw)
    assert torch.equal(ours.bn, theirs.bn)
    assert float(ours.bn.std(0).max()) > 0


TEACHERS: list[tuple[str, Callable[[State], dict[str, Any]]]] = [
    ("backbone.", lambda state: {"student": {}, "teacher": {**state, "head.mlp.0.weight": torch.ones(3, 3)}}),
    (
        "module.backbone.",
        lambda state: {"teacher": state, "epoch": 3, "args": argparse.Namespace(arch="vit", lr=0.1)},
    ),
    ("", lambda state: {**state, "head.weight": torch.ones(1000, 192), "head.bias": torch.ones(1000)}),
    ("base.", dict),
]


@pytest.mark.parametrize("name", ["vit_tiny", "vit_small_ics", "vit_tiny_pass"])
@pytest.mark.parametrize(("prefix", "wrap"), TEACHERS)
def test_a_backbone_alone_starts_a_training(
    name: str,
    prefix: str,
    wrap: Callable[[State], dict[str, Any]],
    network: type,
    twin_of: Twin,
    images: Tensor,
    tmp_path: Path,
) -> None:
    donor = network(name, "fresh")
    torch.save(wrap(base(donor, prefix)), tmp_path / "teacher.pth")
    content = read_content(tmp_path / "teacher.pth")
    weights = recognize(content, FILE)
    assert weights is not None
    assert (weights.is_reid_model, weights.architecture) == (False, {"name": name})
    assert torch.equal(filled(content, twin_of)(images).raw, donor(images).raw)


def test_the_student_counts_where_there_is_no_teacher(network: type, twin_of: Twin, images: Tensor) -> None:
    student, teacher = network("vit_tiny", "fresh"), network("vit_tiny", "fresh")
    both = {"student": base(student, "backbone."), "teacher": base(teacher, "backbone.")}
    assert torch.equal(filled(both, twin_of)(images).raw, teacher(images).raw)
    assert torch.equal(filled({"student": both["student"]}, twin_of)(images).raw, student(images).raw)


def opened(state: Mapping[str, Tensor], path: Path, **values: object) -> TrainedModel:
    torch.save(state, path)
    return load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(path), "INPUT.SIZE_TEST": [64, 32],
                                    "INPUT.SIZE_TRAIN": [64, 32], **values}))  # fmt: skip


@torch.inference_mode()
def test_four_necks_of_pass_are_left_out(network: type, images: Tensor, tmp_path: Path) -> None:
    donor = network("vit_tiny_pass", "bnneck")
    state = transreid(donor)
    necks = {f"bottleneck{end}.{name}": torch.rand(192) for end in ("", "_1", "_2", "_3") for name in _NECK}
    state = {name: t for name, t in state.items() if not name.startswith("bottleneck")} | necks
    model = opened(state, tmp_path / "pass.pth")
    torch.testing.assert_close(model.network.embed(images), donor(images).raw, rtol=0, atol=1e-6)
    with pytest.raises(ReidError, match="PASS with four necks must join its features"):
        opened({**state, "classifier.weight": torch.ones(7, 192)}, tmp_path / "mean.pth")


@torch.inference_mode()
def test_the_mean_of_class_token_and_parts_is_a_vector(network: type, images: Tensor, tmp_path: Path) -> None:
    donor = network("vit_tiny_pass", "bnneck")
    state = transreid(donor)
    state |= {f"bottleneck.{name}": torch.rand(192) for name in _NECK}
    model = opened({**state, "classifier.weight": torch.ones(7, 192)}, tmp_path / "pass.pth")
    class_token, parts = donor(images).raw.chunk(2, dim=1)
    torch.testing.assert_close(model.network.embed(images), (class_token + parts) / 2, rtol=0, atol=1e-6)


def test_size_and_stride_come_from_the_position_embeddings(network: type) -> None:
    state = transreid(network("vit_tiny", "bnneck"))
    for patches, size, stride in ((128, (256, 128), 16), (374, (384, 128), 11), (441, (256, 256), 12)):
        weights = recognize({**state, "base.pos_embed": torch.zeros(1, patches + 1, 192)}, FILE)
        assert weights is not None
        assert weights.preprocessing is not None
        assert (weights.preprocessing.size, weights.architecture["patch_stride"]) == (size, stride)


def test_damaged_and_other_files_are_named(network: type, twin_of: Twin, tmp_path: Path) -> None:
    state = transreid(network("vit_tiny", "bnneck"))
    lacking = {name: tensor for name, tensor in state.items() if name != "base.blocks.3.norm1.bias"}
    with pytest.raises(ReidError, match=r"TransReID.*backbone\.base\.blocks\.3\.norm1\.bias is missing"):
        filled(lacking, twin_of)
    with pytest.raises(ReidError, match=r"backbone\.base\.blocks\.0\.ls1\.gamma is unknown"):
        filled({**state, "base.blocks.0.ls1.gamma": torch.ones(192)}, twin_of)
    wide = {**state, "base.patch_embed.proj.weight": torch.ones(1024, 3, 14, 14)}
    with pytest.raises(ReidError, match=r"a vision transformer of 12 blocks, 1024 components .*patches of 14 pixels"):
        recognize(wide, FILE)
    for shape in ((192,), (1, 129, 64), (1, 0, 192)):
        with pytest.raises(ReidError):
            opened({**state, "base.pos_embed": torch.zeros(shape)}, tmp_path / "odd.pth")
