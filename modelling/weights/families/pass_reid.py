"""Files of PASS, whose vision transformers have class tokens for three parts of the body."""

from typing import Any

import torch

from modelling.weights.families.vit import vit_architecture, vit_images, vit_name
from modelling.weights.format import Format, State

_PART = ("part_token1", "patch_embed.proj.", "blocks.", "pos_embed")
_of_vit = vit_architecture("base.", retrieval_feature="raw")


def _architecture(tensors: State) -> dict[str, Any]:
    """The vector is the class token beside the mean of the parts, or the mean of these two."""
    width = tensors["base.part_token1"].shape[-1]
    return {**_of_vit(tensors), **({"embedding_dim": width} if _is_mean(tensors) else {})}


def _is_mean(tensors: State) -> bool:
    """Whether the vector has as many components as a token, by the classifier or by the only neck."""
    sizes = [tensors[name].shape[-1] for name in ("classifier.weight",) if name in tensors]
    if "bottleneck_1.weight" not in tensors:
        sizes += [tensors[name].shape[-1] for name in ("bottleneck.weight",) if name in tensors]
    return bool(sizes) and sizes[0] == tensors["base.part_token1"].shape[-1]


def _with_mean(state: State) -> State:
    """Add the layer that makes the mean of class token and parts, if the vector is this mean."""
    width = state["backbone.base.part_token1"].shape[-1]
    neck = state.get("head.bn.weight")
    if neck is None or len(neck) != width:
        return state
    half = torch.eye(width) / 2
    return {**state, "head.linear.weight": torch.cat([half, half], dim=1)}


FORMATS = [
    Format(
        kind="checkpoint of PASS with four necks, which are not loaded",
        prefixes=(*(f"base.{name}" for name in _PART), "bottleneck.", "bottleneck_3."),
        renames={"base.": "backbone.base."},
        left_out=("bottleneck", "classifier.", "base.fc."),
        classifiers=("classifier.weight",),
        architecture=_of_vit,
        images=vit_images("base."),
    ),
    Format(
        kind="checkpoint of PASS",
        prefixes=(*(f"base.{name}" for name in _PART), "bottleneck."),
        renames={"base.": "backbone.base.", "bottleneck.": "head.bn."},
        left_out=("classifier.", "base.fc."),
        classifiers=("classifier.weight",),
        architecture=_architecture,
        images=vit_images("base."),
        adapt=_with_mean,
    ),
    Format(
        kind="teacher of PASS",
        prefixes=tuple(f"backbone.{name}" for name in _PART),
        renames={"backbone.": "backbone.base."},
        left_out=("head.", "backbone.head.", "backbone.fc."),
        architecture=lambda tensors: {"name": vit_name(tensors, "backbone.")},
        plain=True,
    ),
    Format(
        kind="plain ViT backbone of PASS",
        prefixes=_PART,
        left_out=("fc.", "head."),
        architecture=lambda tensors: {"name": vit_name(tensors)},
        plain=True,
    ),
]
