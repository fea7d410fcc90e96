"""Files of PASS, whose vision transformers have class tokens for three parts of the body."""

from typing import Any

import torch

from modelling.weights.families.vit import vit_architecture, vit_images, vit_name
from modelling.weights.format import Format, State
from utils.errors import ReidError

_PASS = ("part_token1", "patch_embed.proj.", "blocks.", "pos_embed")
_of_vit = vit_architecture("base.", retrieval_feature="raw")


def _architecture(tensors: State) -> dict[str, Any]:
    """The vector is the class token beside the mean of the parts, or, as wide as a token, the mean of these two.

    Raises:
        ReidError: for the latter with four necks.
    """
    width, has_one_neck = tensors["base.part_token1"].shape[-1], not _several_necks(tensors)
    wide = ("classifier.weight", "bottleneck.weight") if has_one_neck else ("classifier.weight",)
    if all(tensors[name].shape[-1] != width for name in wide if name in tensors):
        return _of_vit(tensors)
    if has_one_neck:
        return {**_of_vit(tensors), "embedding_dim": width}
    raise ReidError("a file of PASS with four necks must join its features (FEAT_FUSION cat), got their mean")


def _several_necks(tensors: State) -> tuple[str, ...]:
    """A neck for each token cannot be one of the vector; retrieval uses none."""
    return ("bottleneck",) if "bottleneck_3.weight" in tensors else ()


def _with_mean(state: State) -> State:
    """Add the layer that makes the mean of class token and parts, if the vector is this mean."""
    width, neck = state["backbone.base.part_token1"].shape[-1], state.get("head.bn.weight")
    if neck is None or len(neck) != width:
        return state
    half = torch.eye(width) / 2
    return {**state, "head.linear.weight": torch.cat([half, half], dim=1)}


FORMATS = [
    Format(
        kind="checkpoint of PASS",
        prefixes=(*(f"base.{name}" for name in _PASS), "bottleneck."),
        renames={"base.": "backbone.base.", "bottleneck.": "head.bn."},
        left_out=("classifier.", "base.fc."),
        unused=_several_necks,
        classifiers=("classifier.weight",),
        architecture=_architecture,
        images=vit_images("base."),
        adapt=_with_mean,
    ),
    Format(
        kind="teacher of PASS",
        prefixes=tuple(f"backbone.{name}" for name in _PASS),
        renames={"backbone.": "backbone.base."},
        left_out=("head.", "backbone.head.", "backbone.fc."),
        architecture=lambda tensors: {"name": vit_name(tensors, "backbone.")},
        images=vit_images("backbone."),
        plain=True,
    ),
    Format(
        kind="plain ViT backbone of PASS",
        prefixes=_PASS,
        left_out=("fc.", "head."),
        architecture=lambda tensors: {"name": vit_name(tensors)},
        images=vit_images(""),
        plain=True,
    ),
]
