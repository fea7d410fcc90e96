"""Which network a set of tensors belongs to, and the two ways to name the tensors of an OSNet."""

import re
from collections.abc import Mapping

from torch import Tensor

from modelling.backbones.non_local import MARK as NON_LOCAL
from modelling.backbones.osnet import OSNETS
from utils.errors import ReidError

BASE = "backbone.base."
"""Prefix of the names of a backbone's tensors in our network."""

# (blocks of the four stages, three convolutions in a block) -> name
_RESNET_DEPTHS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
_WRAPPERS = ("module", "_orig_mod")
_STEM_CHANNELS = {64: "x1_0", 48: "x0_75", 32: "x0_5", 16: "x0_25"}


def network_name(state: Mapping[str, Tensor]) -> str | None:
    """MODEL.NAME of a ResNet, ResNeSt or OSNet by tensors under our names; None if it is none of these.

    Raises:
        ReidError: for one that is not among our networks.
    """
    if BASE + "conv1.conv.weight" in state:
        return _osnet_name(state)
    if any(name.startswith(BASE + "layer1.") for name in state):
        return _resnet_name(state)
    return None


def without_wrappers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove what wrappers add to names anywhere: ``module.`` (several GPUs, averages), ``_orig_mod.`` (compiled)."""
    return {
        ".".join(part for part in name.split(".") if part not in _WRAPPERS): tensor
        for name, tensor in state.items()
        if name != "n_averaged"  # torch.optim.swa_utils counts here
    }


def without_common_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Remove the first part of the names if all have the same one (``model.``, ``net.``); None if they differ."""
    if len({name.partition(".")[0] for name in state}) != 1 or not all("." in name for name in state):
        return None
    return {name.partition(".")[2]: tensor for name, tensor in state.items()}


def with_our_osnet_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of an OSNet-AIN, which numbers its streams and names its transitions, to those of OSNet."""
    if not any(name.startswith("conv2.0.conv2.0.layers.") for name in state):
        return dict(state)
    return {_without_layers(name): tensor for name, tensor in state.items()}


def _without_layers(name: str) -> str:
    name = re.sub(r"^pool([23])\.0\.", r"conv\1.2.0.", name)
    match = re.fullmatch(r"(conv[234]\.\d)\.conv2\.([0-3])\.layers\.(\d)\.(.*)", name)
    if not match:
        return name
    block, stream, layer, rest = match.groups()
    letter = "abcd"[int(stream)]
    position = "" if letter == "a" else f".{layer}"  # the first stream has one layer without a number
    return f"{block}.conv2{letter}{position}.{rest}"


def _resnet_name(state: Mapping[str, Tensor]) -> str:
    pattern = re.compile(re.escape(BASE) + r"layer([1-4])\.(\d+)\.")
    pairs = {match.groups() for match in map(pattern.match, state) if match}
    blocks = tuple(sum(stage == number for stage, _ in pairs) for number in "1234")
    deep = BASE + "layer1.0.conv3.weight" in state
    is_resnest = BASE + "layer1.0.conv2.fc1.weight" in state
    if (blocks, deep) not in _RESNET_DEPTHS:
        raise ReidError(
            f"the weights must be of a ResNet-18, 34, 50, 101 or 152, got stages of {blocks} blocks; "
            "use them with the framework that made them"
        )
    if is_resnest and blocks != (3, 4, 6, 3):
        raise ReidError(f"the weights must be of a ResNeSt-50, got a ResNeSt with stages of {blocks} blocks")
    name = "resnest50" if is_resnest else _RESNET_DEPTHS[blocks, deep]
    has_ibn = BASE + "layer1.0.bn1.IN.weight" in state
    has_non_local = any(f".{NON_LOCAL}" in name for name in state)
    return name + ("_ibn_a" if has_ibn else "") + ("_nl" if has_non_local else "")


def _osnet_name(state: Mapping[str, Tensor]) -> str:
    stem = next(iter(state[BASE + "conv1.conv.weight"].shape), 0)
    width = _STEM_CHANNELS.get(stem)
    variant = ""
    if BASE + "conv2.0.IN.weight" in state:
        # If a block normalizes its residual alone, its last convolution has no normalization of its own.
        variant = "ibn_" if BASE + "conv2.0.conv3.bn.weight" in state else "ain_"
    name = f"osnet_{variant}{width}"
    if name not in OSNETS:
        raise ReidError(
            f"the weights must be of one of {', '.join(OSNETS)}, got an OSNet with {stem} channels in its "
            f"stem{' and instance normalization' if variant else ''}"
        )
    return name
