"""The formats that :mod:`modelling.foreign` knows, as a table."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Format:
    """How one project names its tensors.

    Attributes:
        kind: what such a file is.
        needed: the file has a name that begins with each of these.
        renames: beginning of a name there -> here; the first that fits is taken.
        left_out: beginnings of the names that are not loaded.
        classifiers: names of the classifier's weight, whose rows are the identities.
        head: the head that the file was trained with.
        bare_stem: a ResNet without IBN lacks the ReLU of its stem.
        last_stride: of a ResNet's last stage; None where both occur.
        stem_pool: how a ResNet's stem pools.
        interpolation: of the images it was trained on.
        plain: a backbone without anything trained on identities.
        imagenet_too: the project publishes its ImageNet weights under the same names.
        ibn_sizes_vary: the project trained its IBN networks at another size than the others.
        backbone_name: where it is known before the tensors are seen.
    """

    kind: str
    needed: tuple[str, ...]
    renames: dict[str, str] = field(default_factory=lambda: {"": "backbone.base."})
    left_out: tuple[str, ...] = ()
    classifiers: tuple[str, ...] = ()
    head: Literal["bnneck", "projection"] = "bnneck"
    bare_stem: bool = False
    last_stride: int | None = None
    stem_pool: Literal["padded", "ceil"] = "padded"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    plain: bool = False
    imagenet_too: bool = False
    ibn_sizes_vary: bool = False
    backbone_name: str | None = None

    def fits(self, names: Iterable[str]) -> bool:
        """Whether a file with these tensors is of this format."""
        given = tuple(names)
        return all(any(name.startswith(prefix) for name in given) for prefix in self.needed)

    def rename(self, name: str) -> str:
        """Our name of a tensor; one that fits no rule keeps its own, and loading will report it."""
        for theirs, ours in self.renames.items():
            if name.startswith(theirs):
                return ours + name[len(theirs) :]
        return name


_PROJECTION = {"fc.0.": "head.linear.", "fc.1.": "head.bn.", "": "backbone.base."}

# The order matters where one format's names are a part of another's.
FORMATS: tuple[Format, ...] = (
    Format(
        kind="checkpoint of centroids-reid",
        needed=("backbone.base.layer4.", "bn."),
        renames={"backbone.base.": "backbone.base.", "bn.": "head.bn."},
        left_out=("fc_query.", "center_loss.", "backbone.base.fc."),
        classifiers=("fc_query.weight",),
        bare_stem=True,
        last_stride=1,
        ibn_sizes_vary=True,
    ),
    Format(
        kind="checkpoint of reid-strong-baseline",
        needed=("base.layer4.", "bottleneck."),
        renames={"base.": "backbone.base.", "bottleneck.": "head.bn."},
        left_out=("classifier.", "base.fc."),
        classifiers=("classifier.weight",),
        bare_stem=True,
        last_stride=1,
    ),
    Format(
        kind="checkpoint of fast-reid",
        needed=("backbone.layer4.", "heads."),
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
        needed=("conv1.conv.", "conv5.conv.", "fc.0."),
        renames=_PROJECTION,
        left_out=("classifier.",),
        classifiers=("classifier.weight",),
        head="projection",
        imagenet_too=True,
    ),
    Format(
        kind="ResNet of torchreid with a projection",
        needed=("conv1.weight", "layer4.", "fc.0.", "fc.1."),
        renames=_PROJECTION,
        left_out=("classifier.",),
        classifiers=("classifier.weight",),
        head="projection",
        last_stride=1,
        imagenet_too=True,
    ),
    Format(
        kind="ResNet of torchreid",
        needed=("conv1.weight", "layer4.", "classifier."),
        left_out=("classifier.",),
        classifiers=("classifier.weight",),
        last_stride=2,
        imagenet_too=True,
    ),
    Format(
        kind="plain ResNet backbone",
        needed=("conv1.weight", "layer4."),
        left_out=("fc.",),
        plain=True,
    ),
)


IMAGENET_FORMAT = Format(
    kind="backbone of torchreid trained on ImageNet",
    needed=(),
    left_out=("fc.", "classifier."),
    plain=True,
)


def plain_format(model_name: str, classifiers: tuple[str, ...]) -> Format:
    """A backbone whose network the configuration names.

    Args:
        model_name: MODEL.NAME.
        classifiers: names of the modules that classify.
    """
    return Format(
        kind=f"plain {model_name} backbone",
        needed=(),
        left_out=tuple(f"{name}." for name in classifiers),
        plain=True,
        backbone_name=model_name,
    )
