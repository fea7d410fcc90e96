"""Files of SOLIDER and of SOLIDER-REID, which trains its networks on identities."""

from typing import Any

from datasets.preprocessing import Preprocessing
from modelling.backbones.swin import swin_name
from modelling.weights.format import Format, State


def _architecture(tensors: State) -> dict[str, Any]:
    linear = tensors.get("fcneck.weight")
    dim = {"embedding_dim": len(linear)} if linear is not None and linear.ndim else {}
    return {"name": swin_name(tensors, "base."), "semantic_weight": 0.2, "retrieval_feature": "raw", **dim}


def _images(_: State) -> Preprocessing:
    return Preprocessing((384, 128), (0.5,) * 3, (0.5,) * 3)


def _without_indices(state: State) -> State:
    """The index of a window's pairs is no weight."""
    return {name: tensor for name, tensor in state.items() if not name.endswith(".relative_position_index")}


def _unused(prefix: str) -> tuple[str, ...]:
    """What does not reach the last map: the norms of the other maps and the last modulation."""
    names = (*(f"norm{index}." for index in range(3)), "semantic_embed_w.3.", "semantic_embed_b.3.")
    return tuple(prefix + name for name in names)


FORMATS = [
    Format(
        kind="checkpoint of SOLIDER-REID",
        prefixes=("base.semantic_embed_w.0.", "bottleneck."),
        renames={"base.": "backbone.base.", "bottleneck.": "head.bn.", "fcneck.": "head.linear."},
        left_out=("classifier.", *_unused("base.")),
        classifiers=("classifier.weight",),
        architecture=_architecture,
        images=_images,
        adapt=_without_indices,
    ),
    *(
        Format(
            kind="Swin Transformer of SOLIDER",
            prefixes=(f"{prefix}semantic_embed_w.0.", f"{prefix}patch_embed."),
            renames={prefix: "backbone.base."},
            left_out=("head.", *_unused(prefix)),
            architecture=lambda tensors, prefix=prefix: {"name": swin_name(tensors, prefix)},  # type: ignore[misc]
            adapt=_without_indices,
            plain=True,
        )
        for prefix in ("backbone.", "")
    ),
]
