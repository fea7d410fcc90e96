"""Files of fast-reid, in its three layouts, and of LUPerson, whose code continues it.

Until August 2020 (release v0.1.1) the neck is ``heads.bnneck``, and the stem pools a padded map. From September 2020
on the neck is ``heads.bottleneck``, and the stem's windows begin on the map; LUPerson kept the padding. Until March
2021 mean and deviation are in the file.
"""

import re
from typing import Any

import torch

from datasets.preprocessing import Preprocessing
from modelling.weights.families.vit import VIT_NAMES, vit_architecture, vit_images
from modelling.weights.format import Format, State, has
from modelling.weights.names import BASE, network_name

_LUPERSON_MEANS = (75.0, 95.0)  # between these lie its means of all channels, of 255
_LUPERSON_REDUCTION = 128  # components of the reduction that it trains with ImageNet's mean
_PARTS = ("b1", "b2", "b3", "b21", "b22", "b31", "b32", "b33")  # of MGN, in the order of its embedding
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
# Where the layers of MGN's sequences come from in a ResNet.
_MGN_LAYERS = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3.0"}
_TALL, _USUAL = (384, 128), (256, 128)
# Whether the head has a convolution, and whether its neck is the old one -> where its layers are.
_PLACES: dict[tuple[bool, bool], dict[str, str]] = {
    (False, False): {"heads.bottleneck.0.": "head.bn."},
    (False, True): {"heads.bnneck.": "head.bn."},
    (True, False): {"heads.bottleneck.0.": "head.linear.", "heads.bottleneck.1.": "head.bn."},
    (True, True): {
        "heads.bottleneck.0.": "head.linear.0.",
        "heads.bottleneck.1.": "head.linear.1.",
        "heads.bnneck.": "head.bn.",
    },
}
_LINEARS = ("head.linear.weight", "head.linear.0.weight")


def _network(tensors: State) -> dict[str, Any]:
    """Options of the backbone."""
    is_old = has(tensors, "bnneck.weight")
    padded = is_old or _is_of_luperson(tensors)
    name = network_name(_with_our_blocks(tensors)) or ""
    if name.startswith("resnest"):
        # The dilation came when the non-local blocks went, in December 2020.
        return {"name": name, "last_stride": 1, "last_dilation": 1 if padded or name.endswith("_nl") else 2}
    options = {"name": name, "last_stride": 1, "stem_relu": True}
    if has(tensors, "bnneck.") and not is_old:
        # Somebody renamed the neck of an old file; its stem was most likely padded, but MODEL.STEM_POOL decides.
        return options
    return {**options, "stem_pool": "padded" if padded else "ceil"}


def _is_of_luperson(tensors: State) -> bool:
    """Whether LUPerson's code wrote the file: by its extra norms, its mean, its reduction or its MGN without IBN.

    fast-reid trains its MGN on a network with IBN.
    """
    if "pixel_mean" not in tensors:
        return False
    low, high = _LUPERSON_MEANS
    has_its_mean = bool(((tensors["pixel_mean"] > low) & (tensors["pixel_mean"] < high)).all())
    has_its_head = "b1_head.bottleneck.0.weight" in tensors and not has(tensors, ".IN.")
    return has_its_mean or has_its_head or _dim_of_reduction(tensors) == _LUPERSON_REDUCTION


def _dim_of_reduction(tensors: State) -> int:
    """Components that the convolution of a head gives; 0 without one."""
    weight = tensors.get("heads.bottleneck.0.weight")
    return len(weight) if weight is not None and weight.ndim == 4 else 0


def _with_our_blocks(tensors: State) -> State:
    """The backbone's tensors under our names, as far as they tell the network."""
    renamed = {}
    for name, tensor in tensors.items():
        ours = _branch_layer(name, "b1", BASE) or re.sub(r"^backbone\.", BASE, name)
        renamed[_layer_of_sequence(_non_local(ours))] = tensor
    return renamed


def _non_local(name: str) -> str:
    return re.sub(r"^backbone\.base\.NL_(\d)\.(\d+)\.", r"backbone.base.layer\1.non_local\2.", name)


def _layer_of_sequence(name: str) -> str:
    return re.sub(r"^backbone\.base\.(\d)\.", lambda match: f"{BASE}{_MGN_LAYERS.get(match[1], match[1])}.", name)


def _branch_layer(name: str, branch: str, start: str) -> str | None:
    """A name in a branch of MGN as one of a ResNet's; None for another name."""
    if match := re.match(rf"{branch}\.0\.(\d+)\.(.*)", name):  # the third stage without its first block
        return f"{start}layer3.{int(match[1]) + 1}.{match[2]}"
    return f"{start}layer4.{match[1]}" if (match := re.match(rf"{branch}\.1\.(.*)", name)) else None


def _has_non_local(tensors: State) -> bool:
    return has(tensors, "backbone.NL_")


def _architecture(tensors: State) -> dict[str, Any]:
    """AGW and SBS have non-local blocks; AGW pools by a power of 3 that is in no file, SBS by a learned one."""
    pooling: str | None = "gem_fixed" if _has_non_local(tensors) else "avg"
    if "heads.pool_layer.p" in tensors:
        pooling = "gem"
    network, dim = _network(tensors), _dim_of_reduction(tensors)
    if network.get("last_dilation") == 2 and pooling == "avg":
        pooling = None  # an AGW on today's ResNeSt has the tensors of a BoT, so MODEL.POOLING decides
    head = "reduction" if dim and "heads.bnneck.weight" in tensors else "bnneck"
    return {**network, "head": head, "pooling": pooling, "embedding_dim": dim}


def _images(tensors: State) -> Preprocessing:
    size = _TALL if "heads.pool_layer.p" in tensors else _USUAL
    return Preprocessing(size, interpolation="bicubic")


def _other_size(tensors: State) -> str:
    """In v0.1.1 AGW learned its power too, so it has the names of SBS."""
    is_open = {"heads.pool_layer.p", "heads.bnneck.weight"} <= tensors.keys()
    return "AGW was trained at 256 x 128 (INPUT.SIZE_TEST '[256,128]')" if is_open else ""


def _adapt(state: State) -> State:
    """Convolutions of the head become linear layers, and non-local blocks lie within their stage."""
    has_linear, is_old = bool(_dim_of_reduction(state)), "heads.bnneck.weight" in state
    places = _PLACES[has_linear, is_old]
    adapted = {}
    for name, tensor in state.items():
        if name == "heads.bnneck.num_batches_tracked" and not is_old:
            continue  # left over where somebody renamed the neck
        theirs = next((begin for begin in places if name.startswith(begin)), "")
        ours = places[theirs] + name.removeprefix(theirs) if theirs else _non_local(name)
        adapted[ours] = tensor.flatten(1) if ours in _LINEARS else tensor
    return adapted


def _mgn_architecture(tensors: State) -> dict[str, Any]:
    head = (
        "mgn_norm" if has(tensors, "heads_extra_bn_b1.") else "mgn_relu" if "b1_pool.1.weight" in tensors else "mgn"
    )
    reduction = tensors.get("b1_pool.1.weight", tensors.get("b1_head.bottleneck.0.weight"))
    pooling = "gem" if {"b1_pool.0.p", "b1_head.pool_layer.p"} & tensors.keys() else "avg"
    dim = 0 if reduction is None else len(reduction)
    return {**_network(tensors), "head": head, "pooling": pooling, "embedding_dim": dim}


def _adapt_mgn(state: State) -> State:
    """Names of the branches, and one batch normalization of all eight parts."""
    renamed = {}
    for theirs, tensor in state.items():
        name = _mgn_name(theirs)
        renamed[name] = tensor.flatten(1) if ".linears." in name and tensor.ndim == 4 else tensor
    if all(renamed[name].ndim for part in _PARTS if (name := f"{part}.weight") in renamed):
        for last in _BATCH_NORM:
            tensors = [renamed.pop(name) for part in _PARTS if (name := f"{part}.{last}") in renamed]
            if tensors:
                renamed[f"head.bn.{last}"] = tensors[0] if last == _BATCH_NORM[-1] else torch.cat(tensors)
    return renamed


def _mgn_name(name: str) -> str:
    """Our name; ``part.weight`` and the like for the batch normalization of a part."""
    for branch in range(3):
        if layer := _branch_layer(name, f"b{branch + 1}", f"head.branches.{branch}."):
            return layer
        if name.startswith(norm := f"heads_extra_bn_b{branch + 1}."):
            return f"head.norms.{branch}.{name.removeprefix(norm)}"
    part, _, rest = name.partition("_")
    if part not in _PARTS:
        return _layer_of_sequence(name)
    number = _PARTS.index(part)
    places = {
        "head.pool_layer.": f"head.pools.{number}.",
        "pool.0.": f"head.pools.{number}.",
        "head.bottleneck.0.": f"head.linears.{number}.",
        "pool.1.": f"head.linears.{number}.0.",
        "pool.2.": f"head.linears.{number}.1.",
        "head.bottleneck.1.": f"{part}.",
        "head.bnneck.": f"{part}.",
    }
    return next(
        (ours + rest.removeprefix(theirs) for theirs, ours in places.items() if rest.startswith(theirs)), name
    )


_of_vit = vit_architecture("backbone.")


def _vit_architecture(tensors: State) -> dict[str, Any]:
    return {**_of_vit(tensors), "embedding_dim": _dim_of_reduction(tensors)}


_PIXELS = ("pixel_mean", "pixel_std")
_CLASSIFIER = ("heads.weight", "heads.classifier.", "heads.cls_layer.")
_CLASSIFIERS = ("heads.weight", "heads.classifier.weight")

FORMATS = [
    Format(
        kind="MGN checkpoint of fast-reid or LUPerson",
        prefixes=("backbone.4.", "b1.1.", "b1_head."),
        renames={"backbone.": BASE},
        left_out=(
            *_PIXELS,
            *(f"{part}_head.{last}" for part in _PARTS for last in ("weight", "classifier.", "cls_layer.")),
        ),
        classifiers=("b1_head.weight", "b1_head.classifier.weight"),
        architecture=_mgn_architecture,
        images=lambda _: Preprocessing(_TALL, interpolation="bicubic"),
        adapt=_adapt_mgn,
    ),
    Format(
        kind="checkpoint of fast-reid",
        prefixes=("backbone.layer4.", "heads."),
        renames={"backbone.": BASE, "heads.pool_layer.": "head.pool."},
        left_out=(*_CLASSIFIER, *_PIXELS),
        classifiers=_CLASSIFIERS,
        architecture=_architecture,
        images=_images,
        adapt=_adapt,
        other_size=_other_size,
    ),
    Format(
        kind="checkpoint of fast-reid (ViT)",
        prefixes=(*(f"backbone.{name}" for name in VIT_NAMES), "heads."),
        renames={"backbone.": BASE},
        left_out=(*_CLASSIFIER, *_PIXELS),
        classifiers=_CLASSIFIERS,
        architecture=_vit_architecture,
        images=vit_images("backbone.", "bicubic"),
        adapt=_adapt,
    ),
    Format(
        kind="pre-training snapshot of LUPerson (MoCo)",
        prefixes=("encoder_q.layer4.",),
        renames={"encoder_q.": BASE},
        left_out=("encoder_q.fc.", "encoder_k.", "queue"),
        plain=True,
        images=lambda _: Preprocessing(_USUAL, (0.3525, 0.3106, 0.3140), (0.2660, 0.2522, 0.2505), "bicubic"),
    ),
]
