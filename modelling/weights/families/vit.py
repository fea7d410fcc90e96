"""What the tensors of a vision transformer say about it, whichever project wrote them."""

from collections.abc import Callable
from typing import Any

from datasets.preprocessing import Preprocessing
from modelling.backbones.positions import PATCH, size_and_stride
from modelling.backbones.vit import ARCHITECTURES, Architecture
from modelling.weights.format import State
from utils.errors import ReidError

VIT_NAMES = ("patch_embed.proj.", "blocks.", "pos_embed")
"""Beginnings of names that every vision transformer has."""

_HALF = (0.5, 0.5, 0.5)


def vit_architecture(prefix: str, **others: object) -> Callable[[State], dict[str, Any]]:
    """A function of a file's tensors: name and options of the network, and ``others``.

    TransReID-SSL and its successors may reduce the class token by a linear layer, ``fcneck``, before the neck.

    Args:
        prefix: beginning of the names of the network's tensors.
        others: keys of MODEL in lower case that all files have in common.
    """

    def architecture(tensors: State) -> dict[str, Any]:
        table = tensors.get(f"{prefix}sie_embed")
        reduction = _shape(tensors, "fcneck.weight")
        usual = size_and_stride(_num_patches(tensors, prefix))
        return {
            "name": vit_name(tensors, prefix),
            "cameras": 0 if table is None else len(table),
            **({"patch_stride": usual[1]} if usual else {}),
            **({"embedding_dim": reduction[0]} if reduction else {}),
            **others,
        }

    return architecture


def vit_images(prefix: str, interpolation: str = "bilinear") -> Callable[[State], Preprocessing]:
    """A function of a file's tensors: the images behind the number of its position embeddings.

    Args:
        prefix: beginning of the names of the network's tensors.
        interpolation: of test images.
    """

    def images(tensors: State) -> Preprocessing:
        usual = size_and_stride(_num_patches(tensors, prefix))
        return Preprocessing(usual[0] if usual else (256, 128), _HALF, _HALF, interpolation)

    return images


def vit_name(tensors: State, prefix: str = "") -> str:
    """MODEL.NAME of a vision transformer.

    Args:
        tensors: of the file.
        prefix: beginning of the names of the network's tensors.

    Raises:
        ReidError: if none of our networks has such tensors.
    """
    projection = _shape(tensors, f"{prefix}patch_embed.proj.weight")
    width = projection[0] if projection else 0
    depth = num_blocks(tensors, prefix)
    hidden = (*_shape(tensors, f"{prefix}blocks.0.mlp.fc1.weight"), 0)[0]
    conv_stem = f"{prefix}patch_embed.conv.0.weight" in tensors
    bias = f"{prefix}blocks.0.attn.qkv.bias" in tensors
    parts = sum(f"{prefix}part_token{number}" in tensors for number in range(1, 4))
    patch = (projection[-1] if projection else 0) * (2 if conv_stem else 1)
    for name, row in ARCHITECTURES.items():
        row_of_file = Architecture(width, row.heads, depth, hidden / max(width, 1), bias, row.scale, conv_stem, parts)
        if row == row_of_file and patch == PATCH:
            return name
    raise ReidError(
        f"the weights must be of one of {', '.join(ARCHITECTURES)}, got a vision transformer of {depth} blocks, "
        f"{width} components a token, {hidden} in its hidden layers and patches of {patch} pixels; timm may have it: "
        "MODEL.NAME timm:NAME"
    )


def num_blocks(tensors: State, prefix: str) -> int:
    """Number of blocks, the last one included that a head may have replaced."""
    start = f"{prefix}blocks."
    return len({name.removeprefix(start).partition(".")[0] for name in tensors if name.startswith(start)})


def _num_patches(tensors: State, prefix: str) -> int:
    positions = _shape(tensors, f"{prefix}pos_embed")
    tokens = positions[1] if len(positions) == 3 else 0
    if f"{prefix}part_token1" in tensors:
        return tokens
    return tokens - (2 if f"{prefix}dist_token" in tensors else 1)


def _shape(tensors: State, name: str) -> tuple[int, ...]:
    return tuple(tensors[name].shape) if name in tensors else ()
