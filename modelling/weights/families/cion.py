"""Files of CION (ReIDZoo): the teacher of its self-supervised training, and networks that its code fine-tuned.

A file of a network of timm needs the user's MODEL.NAME; the vision transformers are those of TransReID-SSL.
"""

import re
from collections.abc import Callable, Sequence

from datasets.preprocessing import Preprocessing
from modelling.backbones.swin import swin_name
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


def _name(prefix: str) -> Callable[[State], dict[str, object]]:
    return lambda tensors: {"name": swin_name(tensors, prefix, "layers"), "retrieval_feature": "raw"}


FORMATS = [
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
