"""Files of reid-strong-baseline and of centroids-reid, which continues it."""

from typing import Any

from modelling.weights.format import Format, State, has


def _architecture(tensors: State) -> dict[str, Any]:
    """Their ResNets end the stem without a ReLU, but those with IBN do not."""
    return {"last_stride": 1, "stem_relu": has(tensors, ".IN."), "stem_pool": "padded"}


FORMATS = [
    Format(
        kind="checkpoint of centroids-reid",
        prefixes=("backbone.base.layer4.", "bn."),
        renames={"backbone.base.": "backbone.base.", "bn.": "head.bn."},
        left_out=("fc_query.", "center_loss.", "backbone.base.fc."),
        classifiers=("fc_query.weight",),
        architecture=_architecture,
        ibn_sizes_vary=True,
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
