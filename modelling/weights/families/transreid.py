"""Vision transformers of TransReID and of projects that use its code, and of self-supervised training.

TransReID-SSL and PersonViT save as TransReID does. Their first training (DINO, iBOT) leaves a teacher
under ``backbone.``, or a network alone.
"""

from itertools import takewhile

import torch
from torch import Tensor

from modelling.weights.families.vit import VIT_NAMES, num_blocks, vit_architecture, vit_images, vit_name
from modelling.weights.format import Format, State

_NECKS = ("bottleneck", *(f"bottleneck_{part}" for part in range(1, 5)))


def _replaced_by_head(tensors: State) -> tuple[str, ...]:
    """The jigsaw head runs its own copies of the last block and the normalization."""
    return (f"base.blocks.{num_blocks(tensors, 'base.') - 1}.", "base.norm.")


def _one_neck(state: State) -> State:
    """The five necks side by side as the one of our head."""
    necks = list(takewhile(lambda neck: f"{neck}.weight" in state, _NECKS))
    renamed: dict[str, Tensor] = {name: tensor for name, tensor in state.items() if not name.startswith("bottleneck")}
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensors = [state[f"{neck}.{name}"] for neck in necks if f"{neck}.{name}" in state]
        if tensors:
            renamed[f"head.bn.{name}"] = torch.cat(tensors)
    if "bottleneck.num_batches_tracked" in state:
        renamed["head.bn.num_batches_tracked"] = state["bottleneck.num_batches_tracked"]
    return renamed


FORMATS = [
    Format(
        kind="checkpoint of TransReID with its jigsaw head",
        prefixes=(*(f"base.{name}" for name in VIT_NAMES), "b1.0.", "b1.1.", "b2.0.", "b2.1.", "bottleneck_4."),
        renames={"base.": "backbone.base.", "b1.": "head.branches.whole.", "b2.": "head.branches.part."},
        left_out=("classifier", "base.fc."),
        unused=_replaced_by_head,
        classifiers=("classifier.weight",),
        architecture=vit_architecture("base.", head="jpm", retrieval_feature="raw"),
        images=vit_images("base."),
        adapt=_one_neck,
    ),
    Format(
        kind="checkpoint of TransReID (TransReID-SSL, PersonViT)",
        prefixes=(*(f"base.{name}" for name in VIT_NAMES), "bottleneck."),
        renames={"base.": "backbone.base.", "bottleneck.": "head.bn.", "fcneck.": "head.linear."},
        left_out=("classifier.", "base.fc."),
        classifiers=("classifier.weight",),
        architecture=vit_architecture("base.", retrieval_feature="raw"),
        images=vit_images("base."),
    ),
    Format(
        kind="ViT of a self-supervised training",
        prefixes=tuple(f"backbone.{name}" for name in VIT_NAMES),
        renames={"backbone.": "backbone.base."},
        left_out=("head.", "backbone.head.", "backbone.fc.", "backbone.masked_embed"),
        architecture=lambda tensors: {"name": vit_name(tensors, "backbone.")},
        images=vit_images("backbone."),
        plain=True,
    ),
    Format(
        kind="plain ViT backbone",
        prefixes=VIT_NAMES,
        left_out=("fc.", "head.", "head_dist.", "pre_logits.", "masked_embed"),
        architecture=lambda tensors: {"name": vit_name(tensors)},
        images=vit_images(""),
        plain=True,
    ),
]
