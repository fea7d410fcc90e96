"""A table of the file formats of other projects."""

from collections.abc import Collection
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Format:
    """How one project names its tensors.

    Attributes:
        kind: what such a file is, for messages.
        prefixes: a file of this format has, for each of these, a name that begins with it.
        renames: beginning of a name there -> here; the first one that fits counts.
        left_out: beginnings of names that are not loaded.
        classifiers: names of the classifier's weight, whose rows are the identities.
        head: the head that the file was trained with, one of :data:`modelling.heads.HEADS`.
        bare_stem: whether a ResNet without IBN lacks the ReLU of its stem.
        last_stride: of a ResNet's last stage; None if the project uses both.
        stem_pool: how a ResNet's stem pools, ``padded`` or ``ceil``.
        interpolation: of the training images.
        plain: whether it is a backbone that was not trained on identities.
        imagenet_too: whether the project publishes its ImageNet weights under the same names.
        ibn_sizes_vary: whether the project trained its IBN networks at another input size than its other networks.
        backbone_name: MODEL.NAME, if the tensors do not tell it.
    """

    kind: str
    prefixes: tuple[str, ...] = ()
    renames: dict[str, str] = field(default_factory=lambda: {"": "backbone.base."})
    left_out: tuple[str, ...] = ()
    classifiers: tuple[str, ...] = ()
    head: str = "bnneck"
    bare_stem: bool = False
    last_stride: int | None = None
    stem_pool: str = "padded"
    interpolation: str = "bilinear"
    plain: bool = False
    imagenet_too: bool = False
    ibn_sizes_vary: bool = False
    backbone_name: str | None = None

    def fits(self, names: Collection[str]) -> bool:
        """Whether a file with these tensors is of this format."""
        return all(any(name.startswith(prefix) for name in names) for prefix in self.prefixes)

    def rename(self, name: str) -> str:
        """Our name of a tensor; a name that no rule fits stays, and loading will report it."""
        for theirs, ours in self.renames.items():
            if name.startswith(theirs):
                return ours + name[len(theirs) :]
        return name


_PROJECTION = {"fc.0.": "head.linear.", "fc.1.": "head.bn.", "": "backbone.base."}

FORMATS: list[Format] = [
    Format(
        kind="checkpoint of centroids-reid",
        prefixes=("backbone.base.layer4.", "bn."),
        renames={"backbone.base.": "backbone.base.", "bn.": "head.bn."},
        left_out=("fc_query.", "center_loss.", "backbone.base.fc."),
        classifiers=("fc_query.weight",),
        bare_stem=True,
        last_stride=1,
        ibn_sizes_vary=True,
    ),
    Format(
        kind="checkpoint of reid-strong-baseline",
        prefixes=("base.layer4.", "bottleneck."),
        renames={"base.": "backbone.base.", "bottleneck.": "head.bn."},
        left_out=("classifier.", "base.fc."),
        classifiers=("classifier.weight",),
        bare_stem=True,
        last_stride=1,
    ),
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
        last_stride=1,
        stem_pool="ceil",
        interpolation="bicubic",
    ),
    Format(
        kind="OSNet of torchreid",
        prefixes=("conv1.conv.", "conv5.conv.", "fc.0."),
        renames=_PROJECTION,
        left_out=("classifier.",),
        classifiers=("classifier.weight",),
        head="projection",
        imagenet_too=True,
    ),
    Format(
        kind="ResNet of torchreid with a projection",
        prefixes=("conv1.weight", "layer4.", "fc.0.", "fc.1."),
        renames=_PROJECTION,
        left_out=("classifier.",),
        classifiers=("classifier.weight",),
        head="projection",
        last_stride=1,
        imagenet_too=True,
    ),
    Format(
        kind="ResNet of torchreid",
        prefixes=("conv1.weight", "layer4.", "classifier."),
        left_out=("classifier.",),
        classifiers=("classifier.weight",),
        last_stride=2,
        imagenet_too=True,
    ),
    Format(
        kind="plain OSNet backbone",
        prefixes=("conv1.conv.", "conv5.conv."),
        left_out=("fc.", "classifier."),
        plain=True,
    ),
    Format(
        kind="plain ResNet backbone",
        prefixes=("conv1.weight", "layer4."),
        left_out=("fc.",),
        plain=True,
    ),
]
"""A file has the first format that fits, so a format whose names are a part of another's comes after that one."""

IMAGENET_FORMAT = Format("backbone of torchreid trained on ImageNet", left_out=("fc.", "classifier."), plain=True)


def plain_format(kind: str, name: str, classifiers: tuple[str, ...]) -> Format:
    """The format of a backbone alone whose name is known.

    Args:
        kind: what it is, for messages.
        name: MODEL.NAME.
        classifiers: names of the classifying modules.
    """
    prefixes = tuple(f"{module}." for module in classifiers)
    return Format(kind, left_out=prefixes, plain=True, backbone_name=name)
