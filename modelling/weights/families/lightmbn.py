"""Files of LightMBN."""

import torch
from torch import Tensor

from datasets.preprocessing import Preprocessing
from modelling.weights.format import Format, State

_LINEARS = ("reduction_0", "reduction_4", "reduction_1", "reduction_2", "reduction_3")
_NECKS = (*_LINEARS, "reduction_ch_0", "reduction_ch_1")


def _one_neck(state: State) -> State:
    """The seven necks side by side as the one of our head, and convolutions of one position as linear layers."""
    adapted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        neck, _, rest = name.partition(".")
        if neck not in _NECKS:
            adapted[name] = tensor.flatten(1) if name == "head.shared.0.weight" else tensor
        elif rest == "reduction.weight" and neck in _LINEARS:
            adapted[f"head.linears.{_LINEARS.index(neck)}.weight"] = tensor.flatten(1)
        elif rest == "bn.num_batches_tracked":
            adapted["head.bn.num_batches_tracked"] = tensor
        elif not rest.startswith("bn."):
            adapted[name] = tensor
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensors = [state[f"{neck}.bn.{name}"] for neck in _NECKS if f"{neck}.bn.{name}" in state]
        if tensors:
            adapted[f"head.bn.{name}"] = torch.cat(tensors)
    return adapted


FORMATS = [
    Format(
        kind="checkpoint of LightMBN",
        # "backone" is their spelling; that of a ResNet has no conv in its first layer
        prefixes=("backone.0.conv.", "global_branch.", "partial_branch.", "channel_branch.", "reduction_ch_0."),
        renames={
            "backone.0.": "backbone.base.conv1.",
            "backone.2.": "backbone.base.conv2.",
            "backone.3.": "backbone.base.conv3.0.",
            "global_branch.": "head.branches.global.",
            "partial_branch.": "head.branches.partial.",
            "channel_branch.": "head.branches.channel.",
            "batch_drop_block.drop_batch_bottleneck.": "head.branches.bottleneck.",
            "shared.": "head.shared.",
        },
        left_out=tuple(f"{neck}.classifier." for neck in _NECKS),
        classifiers=("reduction_0.classifier.weight",),
        architecture=lambda _: {"head": "lmbn"},
        images=lambda _: Preprocessing((384, 128)),
        adapt=_one_neck,
    ),
]
