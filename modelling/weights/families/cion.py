"""Files of CION (ReIDZoo): the teacher of its self-supervised training, and networks that its code fine-tuned.

A file of a network of timm needs the user's MODEL.NAME. The teachers of its vision transformers are read as those of
TransReID-SSL.
"""

import re
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

from datasets.preprocessing import Preprocessing
from modelling.backbones.positions import PATCH, grid_of, size_and_stride
from modelling.backbones.swin import swin_name
from modelling.weights.families.vit import vit_architecture, vit_images
from modelling.weights.format import Format, State

_REID = {"base.": "backbone.base.", "bottleneck.": "head.bn.", "fcneck.": "head.linear."}
_SWIN_NAMES = {
    r"^backbone\.base\.layers\.": "backbone.base.stages.",
    r"\.attn\.": ".attn.w_msa.",
    r"\.mlp\.fc1\.": ".ffn.layers.0.0.",
    r"\.mlp\.fc2\.": ".ffn.layers.1.",
    r"\.patch_embed\.proj\.": ".patch_embed.projection.",
}


def images(_: State) -> Preprocessing:
    """Those of its fine-tuning."""
    return Preprocessing((256, 128), (0.5,) * 3, (0.5,) * 3)


def of_named_network(name: str, classifiers: tuple[str, ...]) -> Format:
    """A checkpoint of its code over a network of timm.

    Args:
        name: MODEL.NAME.
        classifiers: names of the network's own classifying modules.
    """
    return Format(
        kind=f"checkpoint of CION ({name})",
        renames=_REID,
        left_out=("classifier.", *(f"base.{module}." for module in classifiers)),
        classifiers=("classifier.weight",),
        architecture=lambda _: {"name": name, "retrieval_feature": "raw"},
        images=images,
    )


def has_its_order(names: Sequence[str]) -> bool:
    """Whether the classifier lies before the neck.

    Only the order tells a ResNet of CION from one of reid-strong-baseline, whose stem has no ReLU.
    """
    places = {name: place for place, name in enumerate(names)}
    return places.get("classifier.weight", len(names)) < places.get("bottleneck.weight", -1)


def _swin(state: State) -> State:
    """Under the names of SOLIDER, whose patch merging has another order of channels."""
    renamed = {}
    for name, tensor in state.items():
        if name.endswith(".relative_position_index"):
            continue
        if ".downsample." in name and tensor.ndim and tensor.shape[-1] % 4 == 0:
            # of a square's tokens, the columns are the outer order there, and the inner one here
            tensor = tensor.reshape(*tensor.shape[:-1], 2, 2, -1).movedim(-1, -3).transpose(-1, -2).flatten(-3)
        for pattern, replacement in _SWIN_NAMES.items():
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def _has_vit(names: Sequence[str]) -> bool:
    """Whether its vision transformer is here; those of TransReID and its successors have a classifier of ImageNet."""
    return not any(name.startswith(("base.fc.", "base.sie_embed", "base.part_token", "b1.")) for name in names)


def _vit(state: State) -> State:
    """With the position embeddings that its network adds.

    It always resizes them, because it takes the size of its images, a list, for another one than the same tuple. As
    in DINO, the new grid is a tenth of a patch larger, so they move a little.
    """
    positions = state["backbone.base.pos_embed"]
    usual = size_and_stride(positions.shape[1] - 1) if positions.ndim == 3 else None
    if usual is None or usual[1] != PATCH:
        return state
    rows, columns = grid_of(*usual)
    patches = positions[:, 1:].float().reshape(1, rows, columns, -1).permute(0, 3, 1, 2)
    larger = ((rows + 0.1) / rows, (columns + 0.1) / columns)
    new = F.interpolate(patches, scale_factor=larger, mode="bicubic").flatten(2).transpose(1, 2)
    return {**state, "backbone.base.pos_embed": torch.cat([positions[:, :1], new], dim=1)}


def _name(prefix: str) -> Callable[[State], dict[str, object]]:
    return lambda tensors: {"name": swin_name(tensors, prefix, "layers"), "retrieval_feature": "raw"}


FORMATS = [
    Format(
        kind="checkpoint of CION (ViT)",
        prefixes=("base.patch_embed.proj.", "base.blocks.", "base.pos_embed", "bottleneck."),
        condition=_has_vit,
        renames=_REID,
        left_out=("classifier.",),
        classifiers=("classifier.weight",),
        architecture=vit_architecture("base.", retrieval_feature="raw"),
        images=vit_images("base."),
        adapt=_vit,
    ),
    Format(
        kind="checkpoint of CION (Swin)",
        prefixes=("base.layers.0.blocks.", "base.patch_embed.", "bottleneck."),
        renames=_REID,
        left_out=("classifier.",),
        classifiers=("classifier.weight",),
        architecture=_name("base."),
        images=images,
        adapt=_swin,
    ),
    Format(
        kind="checkpoint of CION (ResNet)",
        prefixes=("base.layer4.", "bottleneck."),
        condition=has_its_order,
        renames=_REID,
        left_out=("classifier.", "base.fc."),
        classifiers=("classifier.weight",),
        architecture=lambda _: {"last_stride": 1, "retrieval_feature": "raw"},
        images=images,
    ),
    Format(
        kind="Swin Transformer of CION",
        prefixes=("backbone.layers.0.blocks.", "backbone.patch_embed."),
        renames={"backbone.": "backbone.base."},
        left_out=("head.",),
        architecture=_name("backbone."),
        adapt=_swin,
        plain=True,
    ),
    Format(
        kind="ResNet of a self-supervised training",
        prefixes=("backbone.conv1.weight", "backbone.layer4."),
        renames={"backbone.": "backbone.base."},
        left_out=("head.", "backbone.fc."),
        plain=True,
    ),
]
