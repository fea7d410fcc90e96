"""Files of reid-strong-baseline and of centroids-reid, which continues it."""

from typing import Any

from modelling.weights.format import Format, State, has


def _architecture(tensors: State) -> dict[str, Any]:
    """Their ResNets end the stem without a ReLU, but those with IBN do not."""
    return {"last_stride": 1, "stem_relu": has(tensors, ".IN."), "stem_pool": "padded"}


def _other_size(tensors: State) -> str:
    if not has(tensors, ".IN."):
        return ""
    return "CTL's IBN networks were trained at 320 x 320 (--config_file configs/320_resnet50_ibn_a.yml)"


FORMATS = [
    Format(
        kind="checkpoint of centroids-reid",
        prefixes=("backbone.base.layer4.", "bn."),
        renames={"backbone.base.": "backbone.base.", "bn.": "head.bn."},
        left_out=("fc_query.", "center_loss.", "backbone.base.fc."),
        classifiers=("fc_query.weight",),
        architecture=_architecture,
        other_size=_other_size,
    ),
    Format(
        kind="checkpoint of reid-strong-baseline",
        prefixes=("base.layer4.", "bottleneck."),
        renames={"base.": "backbone.base.", "bottleneck.": "head.bn."},
        left_out=("classifier.", "base.fc."),
        classifiers=("classifier.weight",),
        architecture=_architecture,
    ),
]
