"""Files of CLIP-ReID, of its baselines and of its second stage, and the image towers of OpenAI's CLIP."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from datasets.preprocessing import Preprocessing
from modelling.backbones.clip_vit import WIDTH
from modelling.backbones.positions import PATCH, size_and_stride
from modelling.weights.format import Format, State
from utils.errors import ReidError

_HALF = (0.5, 0.5, 0.5)
_NECKS = ("bottleneck.", "bottleneck_proj.")
_LEFT_OUT = ("classifier.", "classifier_proj.", "prompt_learner.", "text_encoder.")
_TEXT_SIDE = (
    *("transformer.", "token_embedding.", "ln_final.", "positional_embedding", "text_projection", "logit_scale"),
    *("input_resolution", "context_length", "vocab_size"),
)


def _vit_name(tensors: State, prefix: str) -> str:
    """MODEL.NAME of a transformer of CLIP.

    Raises:
        ReidError: for another size than ViT-B/16.
    """
    patches = tensors.get(f"{prefix}conv1.weight")
    shape = () if patches is None else tuple(patches.shape)
    if len(shape) == 4 and (shape[0], shape[-1]) != (WIDTH, PATCH):
        raise ReidError(
            f"the weights must be of CLIP's ViT-B/16, got a transformer of {shape[0]} components a token and patches "
            f"of {shape[-1]} pixels; timm has other ones: MODEL.NAME timm:NAME"
        )
    return "clip_vit_base"


def _vit(tensors: State) -> dict[str, Any]:
    table, usual = tensors.get("cv_embed"), _usual(tensors, "positional_embedding")
    return {
        "name": _vit_name(tensors, "image_encoder."),
        **({"patch_stride": usual[1]} if usual else {}),
        "cameras": 0 if table is None or table.ndim != 2 else len(table),
        "retrieval_feature": "raw",
    }


def _resnet(_: State) -> dict[str, Any]:
    return {"name": "clip_resnet50", "retrieval_feature": "raw"}


def _vit_images(tensors: State) -> Preprocessing:
    return Preprocessing(_size(tensors, "positional_embedding"), _HALF, _HALF)


def _resnet_images(tensors: State) -> Preprocessing:
    return Preprocessing(_size(tensors, "attnpool.positional_embedding"))


def _usual(tensors: State, name: str) -> tuple[tuple[int, int], int] | None:
    """Size and stride of a usual input with as many patches as the file has position embeddings."""
    positions = tensors.get(f"image_encoder.{name}")
    return None if positions is None or positions.ndim != 2 else size_and_stride(len(positions) - 1)


def _size(tensors: State, name: str) -> tuple[int, int]:
    usual = _usual(tensors, name)
    return usual[0] if usual else (256, 128)


def _with_one_neck(state: State) -> State:
    """The two normalizations, which lie side by side in the file, as one of all components."""
    joint = dict(state)
    for name in [name for name in joint if name.startswith("head.bn_proj.")]:
        first = name.replace("bn_proj", "bn")
        if first in joint:
            second = joint.pop(name)
            if second.ndim:  # the counters of batches agree
                joint[first] = torch.cat([joint[first].flatten(), second.flatten()])
    return joint


def _of_clip_reid(
    signature: str,
    architecture: Callable[[State], dict[str, Any]],
    images: Callable[[State], Preprocessing],
    unused: tuple[str, ...] = (),
) -> Format:
    return Format(
        kind="checkpoint of CLIP-ReID",
        prefixes=(signature, *_NECKS),
        renames={
            "image_encoder.": "backbone.base.",
            "cv_embed": "backbone.base.cv_embed",
            "bottleneck.": "head.bn.",
            "bottleneck_proj.": "head.bn_proj.",
        },
        left_out=(*_LEFT_OUT, *unused),
        classifiers=("classifier.weight",),
        architecture=architecture,
        adapt=_with_one_neck,
        images=images,
    )


def _of_clip(signature: str, name: Callable[[State], str]) -> Format:
    return Format(
        kind="image tower of CLIP",
        prefixes=(signature,),
        renames={"visual.": "backbone.base."},
        left_out=_TEXT_SIDE,
        architecture=lambda tensors: {"name": name(tensors)},
        plain=True,
    )


FORMATS = [
    _of_clip_reid("image_encoder.transformer.resblocks.", _vit, _vit_images),
    # With SIE the project makes a table of cameras for its ResNet too, which does not look at it.
    _of_clip_reid("image_encoder.attnpool.", _resnet, _resnet_images, unused=("cv_embed",)),
    _of_clip("visual.transformer.resblocks.", partial(_vit_name, prefix="visual.")),
    _of_clip("visual.attnpool.", lambda _: "clip_resnet50"),
]
