"""Files of CLIP-ReID, made from networks of our own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from modelling.weights.foreign import recognize
from modelling.weights.weights import Weights
from tests.modelling.conftest import Network
from tests.modelling.weights.support import FILE, State, Twin, under
from utils.errors import ReidError

PLANES = {"clip_vit_base": 768, "clip_resnet50": 2048}


def clip_reid(network: nn.Module, name: str) -> State:
    """The file of a second stage: two necks, two classifiers, and the text side."""
    base = dict(network.backbone.base.state_dict())
    first = PLANES[name]
    state = {"classifier.weight": torch.ones(7, first), "classifier_proj.weight": torch.ones(7, 4)}
    for part, value in network.head.bn.state_dict().items():
        state[f"bottleneck.{part}"], state[f"bottleneck_proj.{part}"] = (
            (value[:first], value[first:]) if value.ndim else (value, value)
        )
    if "cv_embed" in base:
        state["cv_embed"] = base.pop("cv_embed")
    text = {"prompt_learner.cls_ctx": torch.ones(7, 4, 512), "text_encoder.positional_embedding": torch.ones(77, 512)}
    return {**state, **under("image_encoder.", base), **text}


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    return Network("clip_vit_base", "bnneck", cameras=2)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("name", PLANES)
def test_both_necks_and_the_tower_come_back(
    name: str, prefix: str, network: type, twin_of: Twin, images: Tensor
) -> None:
    donor = network(name, "bnneck")
    weights = recognize(under(prefix, clip_reid(donor, name)), FILE)
    assert weights is not None
    assert (weights.kind, weights.num_ids) == ("checkpoint of CLIP-ReID", 7)
    assert (weights.architecture["name"], weights.architecture["retrieval_feature"]) == (name, "raw")
    assert {key.partition(".")[0] for key in weights.left_out} == {
        "classifier", "classifier_proj", "prompt_learner", "text_encoder",
    }  # fmt: skip
    receiver = twin_of(weights)
    weights.fill(receiver)
    ours, theirs = receiver(images), donor(images)
    assert torch.equal(ours.raw, theirs.raw)
    assert torch.equal(ours.bn, theirs.bn)


def test_a_file_tells_cameras_stride_and_images(vit: nn.Module) -> None:
    state = clip_reid(vit, "clip_vit_base")
    state["image_encoder.positional_embedding"] = torch.randn(1 + 31 * 10, 768)  # 384 x 128 at a stride of 12
    weights = recognize(state, FILE)
    assert weights is not None
    assert (weights.architecture["cameras"], weights.architecture["patch_stride"]) == (2, 12)
    assert weights.preprocessing is not None
    assert (weights.preprocessing.size, weights.preprocessing.mean) == ((384, 128), (0.5, 0.5, 0.5))
    assert (weights.preprocessing.std, weights.preprocessing.interpolation) == ((0.5, 0.5, 0.5), "bilinear")


def test_a_file_of_16_bits_fills_a_network_of_32(vit: nn.Module, twin_of: Twin, images: Tensor) -> None:
    halves = {key: value.half() if value.is_floating_point() else value for key, value in
              clip_reid(vit, "clip_vit_base").items()}  # fmt: skip
    weights = recognize(halves, FILE)
    assert weights is not None
    receiver = twin_of(weights)
    weights.fill(receiver)
    assert {value.dtype for value in receiver.parameters()} == {torch.float32}
    assert torch.nn.functional.cosine_similarity(receiver(images).raw, vit(images).raw).min() > 0.999


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.pop("bottleneck_proj.bias"), r"head\.bn\.bias has shape \(768,\) instead of \(1280,\)"),
        (lambda s: s.pop("image_encoder.ln_post.bias"), r"backbone\.base\.ln_post\.bias is missing"),
        (lambda s: s.update({"image_encoder.layer4.x": torch.ones(1)}), r"backbone\.base\.layer4\.x is unknown"),
        (lambda s: s.update({"image_encoder.positional_embedding": torch.ones(3)}), r"has shape \(3,\) instead of"),
        (
            lambda s: s.update({"cv_embed": torch.ones(3)}),
            r"cv_embed has shape \(3,\) instead of|cv_embed is unknown",
        ),
    ],
)
def test_a_damaged_file_names_the_family_and_the_tensor(
    damage: Callable[[State], object], message: str, vit: nn.Module, twin_of: Twin
) -> None:
    state = clip_reid(vit, "clip_vit_base")
    damage(state)
    weights = recognize(state, Path("x.pth"))
    assert weights is not None
    with pytest.raises(ReidError, match=rf"x\.pth \(checkpoint of CLIP-ReID\) does not fit .*{message}"):
        fill(weights, twin_of)


def test_a_larger_transformer_is_named(vit: nn.Module) -> None:
    state = {**clip_reid(vit, "clip_vit_base"), "image_encoder.conv1.weight": torch.ones(1024, 3, 14, 14)}
    message = r"x\.pth \(checkpoint of CLIP-ReID\) cannot be opened: .* CLIP's ViT-B/16, got .* 1024 .* of 14 pixels"
    with pytest.raises(ReidError, match=message):
        recognize(state, Path("x.pth"))


def test_the_resnet_leaves_a_table_of_cameras_out(network: type) -> None:
    state = clip_reid(network("clip_resnet50", "bnneck"), "clip_resnet50") | {"cv_embed": torch.ones(6, 2048)}
    weights = recognize(state, FILE)
    assert weights is not None
    assert "cv_embed" in weights.left_out


def fill(weights: Weights, twin_of: Twin) -> None:
    weights.fill(twin_of(weights))
