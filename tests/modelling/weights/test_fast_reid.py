"""Networks of our own, written as fast-reid and LUPerson name their tensors, come back from every layout."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from modelling.weights.foreign import recognize
from modelling.weights.weights import Weights
from tests.modelling.weights.support import State, under
from tests.support import calm_non_local_blocks
from utils.errors import ReidError

PARTS = ("b1", "b2", "b3", "b21", "b22", "b31", "b32", "b33")
IMAGENET, LUPERSON = (123.675, 116.28, 103.53), (89.896, 79.2, 80.073)


def pixels(mean: tuple[float, ...]) -> State:
    return {"pixel_mean": torch.tensor(mean).view(1, 3, 1, 1), "pixel_std": torch.full((1, 3, 1, 1), 51.0)}


def body(network: nn.Module) -> State:
    """The backbone, its non-local blocks beside the stages."""
    return {
        re.sub(r"layer(\d)\.non_local", r"NL_\1.", f"backbone.{name}"): tensor
        for name, tensor in network.backbone.base.state_dict().items()
    }


def one_part(network: nn.Module, neck: str, reduction: str = "") -> State:
    """A file of one head: the name of the neck, and of the convolution before it."""
    state = body(network)
    for name, tensor in network.head.state_dict().items():
        if name.startswith("linear."):
            theirs = name.replace("linear.", "heads.bottleneck.", 1)
            theirs = theirs.replace("bottleneck.weight", f"bottleneck.{reduction}.weight")
            state[theirs] = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        else:
            state["heads." + name.replace("bn.", f"{neck}.").replace("pool.", "pool_layer.")] = tensor
    return state


def mgn(network: nn.Module, *, old: bool = False) -> State:
    """A file of three branches."""
    state: State = {}
    places = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3.0": "6"}
    for name, tensor in network.backbone.base.state_dict().items():
        ours = next(place for place in places if name.startswith(place + "."))
        state[f"backbone.{places[ours]}{name.removeprefix(ours)}"] = tensor
    for name, tensor in network.head.state_dict().items():
        kind, number, rest = ([*name.split(".", 2), ""])[:3]
        if kind == "branches":
            block = re.sub(r"layer3\.(\d+)", lambda match: f"0.{int(match[1]) - 1}", rest).replace("layer4", "1")
            state[f"b{int(number) + 1}.{block}"] = tensor
        elif kind == "norms":
            state[f"heads_extra_bn_b{int(number) + 1}.{rest}"] = tensor
        elif kind == "pools":
            state[PARTS[int(number)] + ("_pool.0." if old else "_head.pool_layer.") + rest] = tensor
        elif kind == "linears":
            place = rest.replace("0.", "1.", 1) if rest.startswith("0.") else rest.replace("1.", "2.", 1)
            theirs = f"_pool.{place}" if old else f"_head.bottleneck.0.{rest}"
            state[PARTS[int(number)] + theirs] = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        else:
            tensors = [tensor] * 8 if not tensor.ndim else tensor.chunk(8)
            neck = "_head.bnneck." if old else "_head.bottleneck.1."
            state |= {part + neck + number: values for part, values in zip(PARTS, tensors, strict=True)}
    classifier = "classifier.weight" if old else "weight"
    return state | {f"{part}_head.{classifier}": torch.ones(7, 4) for part in PARTS}


NOW: dict[str, object] = {"stem_pool": "ceil"}
ONE_PART = [
    # name, head, pooling, components, options, neck, convolution, mean in the file
    ("resnet18", "bnneck", "avg", 0, NOW, "bottleneck.0", "", None),
    ("resnet34_ibn_a", "bnneck", "gem", 0, NOW, "bottleneck.0", "", IMAGENET),
    ("resnet18", "bnneck", "avg", 32, NOW, "bottleneck.1", "0", None),
    ("resnet18", "bnneck", "avg", 64, NOW, "bottleneck.1", "0", IMAGENET),
    ("resnet50_nl", "bnneck", "gem_fixed", 0, NOW, "bottleneck.0", "", None),
    ("resnet50_ibn_a_nl", "bnneck", "gem", 0, NOW, "bottleneck.0", "", None),
    ("resnet18", "bnneck", "avg", 0, {}, "bnneck", "", IMAGENET),
    ("resnet50_nl", "bnneck", "gem", 0, {}, "bnneck", "", IMAGENET),
    ("resnet18", "reduction", "avg", 32, {}, "bnneck", "0", IMAGENET),
    ("resnet18", "bnneck", "avg", 128, {}, "bottleneck.1", "0", IMAGENET),
    ("resnet18", "bnneck", "avg", 0, {}, "bottleneck.0", "", LUPERSON),
    ("resnest50", "bnneck", "gem", 0, {"last_dilation": 2}, "bottleneck.0", "", None),
    ("resnest50_nl", "bnneck", "gem", 0, {}, "bnneck", "", IMAGENET),
]


def check(donor: nn.Module, state: State, twin_of: Callable[[Weights], nn.Module], images: Tensor) -> Weights:
    """The features of the donor come back, nothing is lost, and the weights train."""
    weights = recognize({"model": state, "iteration": 9}, Path("a.pth"))
    assert weights is not None
    assert (weights.num_ids, weights.is_reid_model) == (7, True)
    receiver = twin_of(weights)
    weights.fill(receiver)
    ours, theirs = receiver(images), donor(images)
    torch.testing.assert_close(ours.raw, theirs.raw)
    torch.testing.assert_close(ours.bn, theirs.bn)
    assert float(ours.bn.std(0).max()) > 0
    return weights


@pytest.mark.parametrize(("name", "head", "pooling", "dim", "options", "neck", "reduction", "mean"), ONE_PART)
def test_a_head_of_one_part_comes_back(
    name: str,
    head: str,
    pooling: str,
    dim: int,
    options: dict[str, object],
    neck: str,
    reduction: str,
    mean: tuple[float, ...] | None,
    network: type,
    twin_of: Callable[[Weights], nn.Module],
    images: Tensor,
) -> None:
    if name.startswith("resnest"):
        pytest.importorskip("timm")
    donor = network(name, head, pooling, dim, **options)
    calm_non_local_blocks(donor)
    state = one_part(donor, neck, reduction) | (pixels(mean) if mean else {})
    classifier = "heads.weight" if not mean else "heads.classifier.weight"
    weights = check(donor, state | {classifier: torch.ones(7, 4)}, twin_of, images)
    assert weights.architecture["name"] == name
    assert weights.architecture["pooling"] == pooling
    assert weights.preprocessing is not None
    assert weights.preprocessing.interpolation == "bicubic"
    assert weights.preprocessing.size == ((384, 128) if pooling == "gem" else (256, 128))
    assert weights.preprocessing.mean == pytest.approx(
        [value / 255 for value in mean] if mean else (0.485, 0.456, 0.406), abs=1e-6
    )
    assert bool(weights.size_unsure) == (pooling == "gem" and neck == "bnneck")


@pytest.mark.parametrize(
    ("head", "options", "mean"),
    [
        ("mgn", NOW, None),
        ("mgn", {}, LUPERSON),
        ("mgn", {}, IMAGENET),
        ("mgn_norm", {}, IMAGENET),
        ("mgn_relu", {}, IMAGENET),
    ],
)
def test_the_three_branches_come_back(
    head: str,
    options: dict[str, object],
    mean: tuple[float, ...] | None,
    network: type,
    twin_of: Callable[[Weights], nn.Module],
    images: Tensor,
) -> None:
    donor = network("resnet18", head, "gem", 16, **options)
    state = mgn(donor, old=head == "mgn_relu") | (pixels(mean) if mean else {})
    weights = check(donor, state, twin_of, images)
    assert (weights.architecture["head"], weights.architecture["embedding_dim"]) == (head, 16)
    assert weights.preprocessing is not None
    assert weights.preprocessing.size == (384, 128)


def test_a_renamed_neck_leaves_the_stem_to_the_user(network: type, twin_of: Callable[[Weights], nn.Module]) -> None:
    donor = network("resnet18", "bnneck")
    state = one_part(donor, "bottleneck.0") | {"heads.bnneck.num_batches_tracked": torch.tensor(5)}
    weights = recognize({"model": state | pixels(IMAGENET)}, Path("a.pth"))
    assert weights is not None
    assert "stem_pool" not in weights.architecture
    weights.fill(twin_of(weights))


def test_a_damaged_branch_is_named(network: type, twin_of: Callable[[Weights], nn.Module]) -> None:
    state = mgn(network("resnet18", "mgn", "gem", 16))
    del state["b2.1.0.conv1.weight"], state["b31_head.bottleneck.1.weight"]
    weights = recognize(state | {"b9_head.x": torch.ones(1)}, Path("a.pth"))
    assert weights is not None
    with pytest.raises(ReidError, match=r"head\.branches\.1\.layer4\.0\.conv1\.weight is missing.*b9_head"):
        weights.fill(twin_of(weights))


def test_the_encoder_of_queries_alone_is_a_moco_snapshot(network: type) -> None:
    encoder = under("encoder_q.", network("resnet50", "fresh").backbone.base.state_dict())
    weights = recognize({"state_dict": encoder | {"queue": torch.ones(2, 2)}}, Path("a.pth"))
    assert weights is not None
    assert (weights.kind, weights.architecture) == ("pre-training snapshot of LUPerson (MoCo)", {"name": "resnet50"})


@pytest.mark.parametrize("name", ["resnet50", "resnet50_nl"])
def test_the_encoder_of_a_moco_snapshot_is_the_one_that_learned(name: str, network: type) -> None:
    donor = network("resnet50", "fresh")
    encoder = {**donor.backbone.base.state_dict(), "fc.0.weight": torch.ones(4, 4)}
    other = {key: torch.zeros_like(tensor) for key, tensor in encoder.items()}
    state = (
        under("module.encoder_q.", encoder) | under("module.encoder_k.", other) | {"module.queue": torch.ones(2, 2)}
    )
    weights = recognize({"epoch": 1, "arch": "resnet50", "state_dict": state}, Path("a.pth"), name)
    assert weights is not None
    assert (weights.architecture, weights.is_reid_model) == ({"name": name}, False)
    assert weights.original_images is not None
    assert weights.original_images.mean == (0.3525, 0.3106, 0.3140)
    receiver = network(name, "fresh")
    weights.fill(receiver)
    ours = receiver.backbone.base.state_dict()
    assert all(torch.equal(ours[key], tensor) for key, tensor in encoder.items() if key in ours)


@pytest.mark.parametrize("name", ["resnet50_nl", "resnet50_ibn_a_nl"])
def test_weights_of_a_backbone_fill_all_branches(name: str, network: type, caplog: pytest.LogCaptureFixture) -> None:
    donor = network(name.removesuffix("_nl"), "fresh").backbone.base.state_dict()
    weights = recognize({**donor, "fc.weight": torch.ones(2, 2)}, Path("a.pth"), name)
    assert weights is not None
    receiver = network(name, "mgn", "gem")
    with caplog.at_level(logging.INFO):
        weights.fill(receiver)
    assert "the head is fresh" in caplog.text
    for branch in receiver.head.branches:
        own = branch.state_dict()
        blocks = {key: tensor for key, tensor in own.items() if "non_local" not in key}
        assert len(own) > len(blocks) > 0
        assert all(torch.equal(tensor, donor[key]) for key, tensor in blocks.items())
    broken = recognize(
        {key: tensor for key, tensor in donor.items() if "layer4.2.bn2" not in key}, Path("a.pth"), name
    )
    assert broken is not None
    with pytest.raises(ReidError, match=r"head\.branches\.0\.layer4\.2\.bn2\.weight is missing"):
        broken.fill(receiver)


def test_the_pooling_of_a_resnest_without_a_learned_power_is_left_to_the_user(network: type) -> None:
    pytest.importorskip("timm")
    donor = network("resnest50", "bnneck", "avg", 0, last_dilation=2)
    weights = recognize(
        {"model": one_part(donor, "bottleneck.0", "") | {"heads.weight": torch.ones(7, 4)}}, Path("a")
    )
    assert weights is not None
    assert "pooling" not in weights.architecture
