"""Each foreign format is made from a network of our own, whose features must come back."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from modelling.heads import ProjectionHead
from modelling.weights.foreign import recognize
from modelling.weights.weights import Weights
from tests.modelling.weights.support import under
from tests.support import message_with

State = dict[str, Tensor]


def parts(network: nn.Module) -> tuple[State, State]:
    return network.backbone.base.state_dict(), network.head.state_dict()


def fc_block(head: State) -> State:
    return {name.replace("linear.", "fc.0.").replace("bn.", "fc.1."): tensor for name, tensor in head.items()}


def centroids(network: nn.Module) -> State:
    base, head = parts(network)
    extra = {"fc_query.weight": torch.ones(7, 4), "center_loss.centers": torch.ones(7, 4)}
    return {**under("backbone.base.", base), **head, **extra, "backbone.base.fc.weight": torch.ones(1000, 4)}


def strong_baseline(network: nn.Module) -> State:
    base, head = parts(network)
    neck = {name.replace("bn.", "bottleneck."): tensor for name, tensor in head.items()}
    return {**under("base.", base), **neck, "classifier.weight": torch.ones(7, 4)}


def fast_reid(neck: str, classifier: str) -> Callable[[nn.Module], State]:
    def rename(network: nn.Module) -> State:
        base, head = parts(network)
        bn = {name.replace("bn.", f"heads.{neck}."): tensor for name, tensor in head.items()}
        pixels = {"pixel_mean": torch.full((1, 3, 1, 1), 51.0), "pixel_std": torch.full((1, 3, 1, 1), 102.0)}
        return {**under("backbone.", base), **bn, **pixels, f"heads.{classifier}": torch.ones(7, 4)}

    return rename


def torchreid(network: nn.Module) -> State:
    base, head = parts(network)
    fc = fc_block(head) if isinstance(network.head, ProjectionHead) else {}
    return {**base, **fc, "classifier.weight": torch.ones(7, 4), "classifier.bias": torch.ones(7)}


def torchreid_ain(network: nn.Module) -> State:
    def rename(name: str) -> str:
        name = re.sub(r"^conv([23])\.2\.0\.", r"pool\1.0.", name)
        name = re.sub(r"\.conv2a\.", ".conv2.0.layers.0.", name)
        return re.sub(r"\.conv2([bcd])\.", lambda m: f".conv2.{'abcd'.index(m[1])}.layers.", name)

    return {rename(name): tensor for name, tensor in torchreid(network).items()}


NO_RELU = {"stem_relu": False}
CEIL, PADDED = {"stem_pool": "ceil"}, {"stem_pool": "padded"}
CASES = [
    ("centroids-reid", "resnet18", "bnneck", NO_RELU, centroids, "state_dict", ""),
    ("centroids-reid", "resnet50_ibn_a", "bnneck", {}, centroids, "state_dict", ""),
    ("SNU_ReID", "resnet34", "bnneck", NO_RELU, centroids, "model_state_dict", ""),
    ("reid-strong-baseline", "resnet50", "bnneck", NO_RELU, strong_baseline, "", ""),
    ("reid-strong-baseline", "resnet50_ibn_a", "bnneck", {}, strong_baseline, "", "module."),
    ("fast-reid", "resnet50", "bnneck", CEIL, fast_reid("bottleneck.0", "weight"), "model", ""),
    ("fast-reid", "resnet18", "bnneck", PADDED, fast_reid("bnneck", "classifier.weight"), "model", ""),
    ("OSNet of torchreid", "osnet_x0_25", "projection", {}, torchreid, "", ""),
    ("OSNet of torchreid", "osnet_x1_0", "projection", {}, torchreid, "state_dict", "module."),
    ("OSNet of torchreid", "osnet_ibn_x1_0", "projection", {}, torchreid, "state_dict", ""),
    ("OSNet of torchreid", "osnet_ain_x0_75", "projection", {}, torchreid_ain, "state_dict", "module."),
    ("ResNet of torchreid", "resnet50", "fresh", {"last_stride": 2}, torchreid, "", ""),
    ("torchreid with a projection", "resnet50", "projection", {}, torchreid, "state_dict", "module."),
]


def as_file(state: State, wrapper: str, prefix: str = "") -> dict[str, object]:
    state = under(prefix, state)
    return {"epoch": 3, wrapper: state, "optimizer": {"lr": 0.1}} if wrapper else dict(state)


@pytest.mark.parametrize(("kind", "name", "head", "options", "rename", "wrapper", "prefix"), CASES)
def test_features_of_a_foreign_file_come_back(
    kind: str,
    name: str,
    head: str,
    options: dict[str, object],
    rename: Callable[[nn.Module], State],
    wrapper: str,
    prefix: str,
    network: type,
    twin_of: Callable[[Weights], nn.Module],
    images: Tensor,
    caplog: pytest.LogCaptureFixture,
) -> None:
    donor = network(name, head, **options)
    foreign = rename(donor)
    weights = recognize(as_file(foreign, wrapper, prefix), Path("a.pth"))
    assert weights is not None
    assert kind in weights.kind
    assert (weights.architecture["name"], weights.num_ids) == (name, 7)
    assert weights.architecture["head"] == ("projection" if head == "projection" else "bnneck")
    receiver = twin_of(weights)
    with caplog.at_level(logging.INFO):
        weights.fill(receiver)
    assert message_with(caplog, "a.pth", weights.kind, "7 identities")
    ours, theirs = receiver(images), donor(images)
    assert torch.equal(ours.raw, theirs.raw)
    assert torch.equal(ours.bn, theirs.bn)
    assert float(ours.bn.std(0).max()) > 0
    assert len(weights.left_out) + len(weights.state) == len(foreign)


@pytest.mark.parametrize(
    ("name", "head", "options", "rename"), [case[1:5] for case in CASES if case[0] != "ResNet of torchreid"]
)
def test_a_trained_model_whose_classifier_was_cut_off_is_one(
    name: str,
    head: str,
    options: dict[str, object],
    rename: Callable[[nn.Module], State],
    network: type,
    twin_of: Callable[[Weights], nn.Module],
    images: Tensor,
) -> None:
    donor = network(name, head, **options)
    classifier = re.compile(r"(fc_query|center_loss|classifier|heads\.weight|heads\.classifier)\b")
    weights = recognize({name: t for name, t in rename(donor).items() if not classifier.match(name)}, Path("a.pth"))
    assert weights is not None
    assert (weights.is_reid_model, weights.num_ids) == (True, None)
    assert weights.preprocessing is not None
    receiver = twin_of(weights)
    weights.fill(receiver)
    assert torch.equal(receiver(images).bn, donor(images).bn)
