"""Weights of other projects: what a file is, told from its tensors, and how it fills our network.

Nothing here opens a file: the content comes from ``torch.load(..., weights_only=True)``.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from modelling.backbones.catalogue import StemPool
from modelling.backbones.pixels import Pixels
from modelling.backbones.timm_backbone import PREFIX, classifier_names
from modelling.fitting import check_fit
from modelling.foreign_formats import FORMATS, Format, plain_format
from modelling.foreign_names import network_name, with_our_osnet_names

logger = logging.getLogger(__name__)

# Where the tensors of a file may lie: torchreid and Lightning, the first version of this project, fast-reid.
_WRAPPERS = ("state_dict", "model_state_dict", "model")


@dataclass(frozen=True)
class Preprocessing:
    """What images the weights were trained on.

    Attributes:
        size: height and width in pixels.
        interpolation: of the resize.
        mean: of R, G, B in [0, 1].
        std: of R, G, B.
    """

    size: tuple[int, int] = (256, 128)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, float, float] = Pixels().mean
    std: tuple[float, float, float] = Pixels().std


@dataclass(frozen=True, eq=False)
class ForeignWeights:
    """A file of another project in our terms.

    Attributes:
        kind: what it is, for the log.
        backbone_name: MODEL.NAME of the network; None where the tensors do not tell it.
        state: tensors under the names of our extractor, ``backbone.*`` and ``head.*``.
        head: which head the ``head.*`` tensors belong to.
        pooling: of the head.
        num_ids: rows of the file's classifier; None without one that tells identities apart.
        left_out: names, as the file has them, of the tensors that are not loaded.
        stem_relu: whether its ResNet has the stem's ReLU; None where it is not a ResNet or the file is a
            plain backbone, which any setting may use.
        last_stride: the same of the last stage's stride.
        stem_pool: the same of the stem's maximum pooling.
        preprocessing: see :class:`Preprocessing`.
    """

    kind: str
    backbone_name: str | None
    state: dict[str, Tensor]
    head: Literal["bnneck", "projection"] = "bnneck"
    pooling: Literal["avg", "gem"] = "avg"
    num_ids: int | None = None
    left_out: tuple[str, ...] = ()
    stem_relu: bool | None = None
    last_stride: int | None = None
    stem_pool: StemPool | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    @property
    def has_head(self) -> bool:
        """Whether the file fills the head; a fresh BNNeck in eval mode only scales all vectors alike."""
        return any(name.startswith("head.") for name in self.state)


def recognise(content: Mapping[str, Any], model_name: str = "") -> ForeignWeights | None:
    """Tell what a file of another project is.

    Args:
        content: of the file.
        model_name: MODEL.NAME of the configuration; after ``timm:`` a plain file is read as that network's.

    Returns:
        The weights in our terms, or None if the names fit no known project.

    Raises:
        ReidError: if it is a ResNet of no known depth, or ``model_name`` names no network of timm.
    """
    given = _tensors(content)
    if not given:
        return None
    state = with_our_osnet_names(given)
    known = next((known for known in FORMATS if known.fits(state)), None)
    if model_name.startswith(PREFIX) and (known is None or known.plain):
        known = plain_format(model_name, classifier_names(model_name.removeprefix(PREFIX)))
    if known is None:
        return None
    return _translate(known, state, "model_state_dict" in content)


def load_foreign(extractor: nn.Module, weights: ForeignWeights, origin: str) -> None:
    """Copy the tensors into our network and log what was loaded and what was left.

    Args:
        extractor: has ``backbone`` and ``head``.
        weights: from :func:`recognise`.
        origin: what to call the file in messages.

    Raises:
        ReidError: if a tensor is missing, unknown or of another shape; the message names it.
    """
    target, given = extractor.state_dict(), weights.state
    optional = frozenset() if weights.has_head else {name for name in target if name.startswith("head.")}
    if weights.num_ids is not None:  # a fresh linear layer would scramble what was learned
        optional -= {"head.linear.weight"}
    check_fit(target, given, optional, f"{origin} ({weights.kind})")
    extractor.load_state_dict(given, strict=False)
    logger.info(
        "%s (%s): %d tensors loaded%s; left out: %s",
        origin,
        weights.kind,
        len(given),
        "" if weights.has_head else " into the backbone, the head is fresh",
        ", ".join(weights.left_out) or "nothing",
    )


def _tensors(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a file by name; empty if it holds anything else where they should be."""
    inner = next((content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping)), content)
    if not all(isinstance(value, Tensor) for value in inner.values()):
        return {}
    return {name.removeprefix("module."): tensor for name, tensor in inner.items()}


def _translate(known: Format, given: Mapping[str, Tensor], first_version: bool) -> ForeignWeights:
    left = tuple(name for name in given if name.startswith(known.left_out))
    state = {known.rename(name): tensor for name, tensor in given.items() if name not in left}
    name = known.backbone_name or network_name(state)
    resnet = name is not None and name.startswith("resnet")
    rows = next((len(given[row]) for row in known.classifiers if row in given), None)
    bare_stem = known.bare_stem and resnet and "ibn" not in str(name)
    return ForeignWeights(
        kind="checkpoint of SNU_ReID" if first_version else known.kind,
        backbone_name=name,
        state=state,
        head=known.head,
        pooling="gem" if "head.pool.p" in state else "avg",
        num_ids=rows,
        left_out=left,
        stem_relu=not bare_stem if resnet and not known.plain else None,
        last_stride=known.last_stride,
        stem_pool=known.stem_pool if resnet and not known.plain else None,
        preprocessing=_preprocessing(known, given),
    )


def _preprocessing(known: Format, given: Mapping[str, Tensor]) -> Preprocessing:
    if not {"pixel_mean", "pixel_std"} <= given.keys():
        return Preprocessing(interpolation=known.interpolation)
    red, green, blue = (given["pixel_mean"].flatten().double() / 255).tolist()
    deviations = (given["pixel_std"].flatten().double() / 255).tolist()
    return Preprocessing(
        interpolation=known.interpolation,
        mean=(red, green, blue),
        std=(deviations[0], deviations[1], deviations[2]),
    )
