"""Prefixes and mappings around the tensors of a file come off."""

import logging

import pytest
import torch
from torch import Tensor

from modelling.weights.foreign import recognize
from tests.modelling.weights.support import FILE, Twin, centroids_reid, filled, under
from tests.support import message_with


@pytest.mark.parametrize(
    "rename",
    [
        "module.{}", "_orig_mod.{}", "model.{}", "net.{}", "model.net.{}", "module._orig_mod.{}", "_orig_mod.module.{}",
        "any_name_of_theirs.{}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("has_head", [True, False])
def test_a_prefix_that_all_names_have_comes_off(
    rename: str, has_head: bool, network: type, twin_of: Twin, images: Tensor
) -> None:
    donor = network("resnet18", "bnneck" if has_head else "fresh", stem_relu=not has_head)
    state = centroids_reid(donor) if has_head else donor.backbone.base.state_dict()
    weights = recognize({"state_dict": {rename.format(name): tensor for name, tensor in state.items()}}, FILE)
    assert weights is not None
    assert weights.is_reid_model == has_head
    receiver = twin_of(weights)
    weights.fill(receiver)
    assert torch.equal(receiver(images).raw, donor(images).raw)


def test_wrappers_within_names_come_off_and_their_counter_too(network: type, twin_of: Twin, images: Tensor) -> None:
    donor = network("resnet18", "bnneck", stem_relu=False)
    state = {name.replace("base.", "_orig_mod.base.module."): t for name, t in centroids_reid(donor).items()}
    averaged = {"n_averaged": torch.tensor(3), **under("module.", state)}
    assert torch.equal(filled(averaged, twin_of)(images).bn, donor(images).bn)


@pytest.mark.parametrize(
    "keys",
    [
        "ema",
        "params",
        "params_ema",
        "net",
        "model.state_dict",
        "checkpoint.model",
        "any.thing.of.theirs",
        "state_dict",
    ],
)
def test_tensors_are_found_within_mappings(keys: str, network: type) -> None:
    content: object = centroids_reid(network("resnet18", "bnneck"))
    for key in reversed(keys.split(".")[:3]):
        content = {
            "epoch": 3,
            "optimizer": {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{}]},
            key: content,
        }
    weights = recognize(content, FILE)  # type: ignore[arg-type]
    assert weights is not None
    assert (weights.kind, weights.num_ids) == ("checkpoint of centroids-reid", 7)


def test_weights_come_before_their_average(network: type, caplog: pytest.LogCaptureFixture) -> None:
    trained, average = (centroids_reid(network("resnet18", "bnneck")) for _ in range(2))
    with caplog.at_level(logging.INFO):
        weights = recognize({"ema": average, "model": trained}, FILE)
    assert weights is not None
    assert torch.equal(weights.state["backbone.base.conv1.weight"], trained["backbone.base.conv1.weight"])
    assert message_with(caplog, "x.pth", "model", "ema")


def test_a_file_of_a_network_that_its_names_do_not_tell_loses_its_prefix(network: type, twin_of: Twin) -> None:
    pytest.importorskip("timm")
    donor = network("timm:convnext_atto", "fresh")
    state = under("model.", {**donor.backbone.base.state_dict(), "head.fc.weight": torch.ones(2, 2)})
    receiver = filled({"state_dict": under("module.", state)}, twin_of, "timm:convnext_atto")
    name = "backbone.base.stem.0.weight"
    assert torch.equal(receiver.state_dict()[name], donor.state_dict()[name])
