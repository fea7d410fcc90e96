"""Files of fast-reid."""

from typing import Any

from datasets.preprocessing import Preprocessing
from modelling.weights.format import Format, State


def _architecture(tensors: State) -> dict[str, Any]:
    pooling = "gem" if "heads.pool_layer.p" in tensors else "avg"
    return {"last_stride": 1, "stem_relu": True, "stem_pool": "ceil", "pooling": pooling}


def _images(_: State) -> Preprocessing:
    return Preprocessing(interpolation="bicubic")


FORMATS = [
    Format(
        kind="checkpoint of fast-reid",
        prefixes=("backbone.layer4.", "heads."),
        renames={
            "backbone.": "backbone.base.",
            "heads.bottleneck.0.": "head.bn.",
            "heads.bnneck.": "head.bn.",
            "heads.pool_layer.": "head.pool.",
        },
        left_out=("heads.weight", "heads.classifier.", "heads.cls_layer.", "pixel_mean", "pixel_std"),
        classifiers=("heads.weight", "heads.classifier.weight"),
        architecture=_architecture,
        images=_images,
    ),
]
