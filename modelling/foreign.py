"""Weights of other projects: what a file is, told from its tensors, and how it fills our network.

Nothing here opens a file: the content comes from ``torch.load(..., weights_only=True)``.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from modelling.backbones.catalogue import StemPool
from modelling.backbones.timm_backbone import PREFIX, classifier_names, fitted_weights
from modelling.fitting import check_fit
from modelling.foreign_formats import FORMATS, IMAGENET_FORMAT, Format, plain_format
from modelling.foreign_names import network_name, with_our_osnet_names
from modelling.preprocessing import Preprocessing, read_preprocessing, told_size

logger = logging.getLogger(__name__)

# Where the tensors of a file may lie: torchreid and Lightning, the first version of this project, fast-reid.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_FIRST_VERSION = "model_state_dict"  # by which a file is of the first version
_BACKBONE = "backbone.base."
_IMAGENET_CLASSES = 1000


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
        left_out: the tensors that are not loaded, under the names that the file has for them.
        stem_relu: whether its ResNet has the stem's ReLU; None where it is not a ResNet or the file is a
            plain backbone, which any setting may use.
        last_stride: the same of the last stage's stride.
        stem_pool: the same of the stem's maximum pooling.
        preprocessing: of the images it was trained on.
        size_unsure: the file does not tell the size of these images, and such networks were trained at several.
        scale: low resolution of these images, 1 = none.
    """

    kind: str
    backbone_name: str | None
    state: dict[str, Tensor]
    head: Literal["bnneck", "projection"] = "bnneck"
    pooling: Literal["avg", "gem"] = "avg"
    num_ids: int | None = None
    left_out: Mapping[str, Tensor] = field(default_factory=dict)
    stem_relu: bool | None = None
    last_stride: int | None = None
    stem_pool: StemPool | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    size_unsure: bool = False
    scale: int = 1

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
    if known.imagenet_too and _rows(known, state) == _IMAGENET_CLASSES:
        known = IMAGENET_FORMAT
    return _translate(known, state, content)


def load_foreign(extractor: nn.Module, weights: ForeignWeights, origin: str) -> None:
    """Copy the tensors into our network and log what was loaded and what was left.

    Args:
        extractor: has ``backbone`` and ``head``.
        weights: from :func:`recognise`.
        origin: what to call the file in messages.

    Raises:
        ReidError: if a tensor is missing, unknown or of another shape; the message names it.
    """
    target, given = extractor.state_dict(), _fitted(extractor, weights)
    optional = frozenset() if weights.has_head else {name for name in target if name.startswith("head.")}
    if weights.num_ids is not None:  # a fresh linear layer would scramble what was learned
        optional -= {"head.linear.weight"}
    check_fit(target, given, optional, f"{origin} ({weights.kind})")
    extractor.load_state_dict(given, strict=False)
    logger.info(
        "%s (%s%s): %d tensors loaded%s; left out: %s",
        origin,
        weights.kind,
        "" if weights.num_ids is None else f", {weights.num_ids} identities",
        len(given),
        "" if weights.has_head else " into the backbone, the head is fresh",
        ", ".join(weights.left_out) or "nothing",
    )


def _fitted(extractor: nn.Module, weights: ForeignWeights) -> dict[str, Tensor]:
    """The tensors to load; those of a network of timm depend on the size it was built for."""
    name = weights.backbone_name or ""
    if not name.startswith(PREFIX):
        return weights.state
    loaded = {inner.removeprefix(_BACKBONE): tensor for inner, tensor in weights.state.items()}
    whole = {**loaded, **weights.left_out}
    fitted = fitted_weights(name.removeprefix(PREFIX), extractor.backbone.base, whole)  # type: ignore[union-attr, arg-type]
    return {_BACKBONE + inner: tensor for inner, tensor in fitted.items()}


def _tensors(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a file by name; empty if it holds anything else where they should be."""
    inner = next((content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping)), content)
    if not all(isinstance(value, Tensor) for value in inner.values()):
        return {}
    return {name.removeprefix("module."): tensor for name, tensor in inner.items()}


def _rows(known: Format, given: Mapping[str, Tensor]) -> int | None:
    return next((len(given[row]) for row in known.classifiers if row in given), None)


def _translate(known: Format, given: Mapping[str, Tensor], content: Mapping[str, Any]) -> ForeignWeights:
    left = {name: tensor for name, tensor in given.items() if name.startswith(known.left_out)}
    state = {known.rename(name): tensor for name, tensor in given.items() if name not in left}
    name = known.backbone_name or network_name(state)
    resnet = name is not None and name.startswith("resnet")
    ibn = "ibn" in str(name)
    scale = content.get("scale")
    return ForeignWeights(
        kind="checkpoint of SNU_ReID" if _FIRST_VERSION in content else known.kind,
        backbone_name=name,
        state=state,
        head=known.head,
        pooling="gem" if "head.pool.p" in state else "avg",
        num_ids=_rows(known, given),
        left_out=left,
        stem_relu=(ibn or not known.bare_stem) if resnet and not known.plain else None,
        last_stride=known.last_stride,
        stem_pool=known.stem_pool if resnet and not known.plain else None,
        preprocessing=read_preprocessing(content, given, known.interpolation),
        size_unsure=known.ibn_sizes_vary and ibn and told_size(content) is None,
        scale=scale if _FIRST_VERSION in content and isinstance(scale, int) and scale > 1 else 1,
    )
