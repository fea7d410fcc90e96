"""Files of torchreid."""

from modelling.weights.format import Format

_PROJECTION = {"fc.0.": "head.linear.", "fc.1.": "head.bn.", "": "backbone.base."}
_STEM = {"stem_relu": True, "stem_pool": "padded"}

FORMATS = [
    Format(
        kind="OSNet of torchreid",
        prefixes=("conv1.conv.", "conv5.conv.", "fc.0."),
        renames=_PROJECTION,
        left_out=("classifier.",),
        classifiers=("classifier.weight",),
        architecture=lambda _: {"head": "projection"},
        imagenet_too=True,
    ),
    Format(
        kind="ResNet of torchreid with a projection",
        prefixes=("conv1.weight", "layer4.", "fc.0.", "fc.1."),
        renames=_PROJECTION,
        left_out=("classifier.",),
        classifiers=("classifier.weight",),
        architecture=lambda _: {"head": "projection", "last_stride": 1, **_STEM},
        imagenet_too=True,
    ),
    Format(
        kind="ResNet of torchreid",
        prefixes=("conv1.weight", "layer4.", "classifier."),
        left_out=("classifier.",),
        classifiers=("classifier.weight",),
        architecture=lambda _: {"last_stride": 2, **_STEM},
        imagenet_too=True,
    ),
]

IMAGENET = Format("backbone of torchreid trained on ImageNet", left_out=("fc.", "classifier."), plain=True)
"""The formats above with the 1000 classes of ImageNet."""
