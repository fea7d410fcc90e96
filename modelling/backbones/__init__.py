"""Networks that turn images into feature maps, by name."""

from modelling.backbones.clip_resnet import CLIP_RESNETS
from modelling.backbones.clip_vit import CLIP_VITS
from modelling.backbones.osnet import OSNETS
from modelling.backbones.record import Backbone
from modelling.backbones.resnest import RESNESTS
from modelling.backbones.resnet import RESNETS
from modelling.backbones.swin import SWINS
from modelling.backbones.timm_backbone import PREFIX, timm_record
from modelling.backbones.vit import VITS
from utils.errors import ReidError, did_you_mean

__all__ = ["BACKBONES", "Backbone", "backbone"]

BACKBONES: dict[str, Backbone] = {
    **RESNETS,
    **RESNESTS,
    **OSNETS,
    **VITS,
    **SWINS,
    **CLIP_VITS,
    **CLIP_RESNETS,
}
"""MODEL.NAME -> record. A network of your own is one more entry: ``BACKBONES["mine"] = Backbone(build=...)``."""


def backbone(name: str) -> Backbone:
    """The record of a backbone.

    Args:
        name: one of :data:`BACKBONES`, or ``timm:`` and the name of a network of timm, which is imported only then.

    Raises:
        ReidError: for an unknown name (the message lists the valid ones and proposes the nearest), and for a network
            of timm if timm is not installed.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    if name.startswith(PREFIX) and name != PREFIX:
        return timm_record(name.removeprefix(PREFIX))
    hint = did_you_mean(name, BACKBONES)
    valid = f"one of {', '.join(BACKBONES)}, {PREFIX}NAME, or a network that a --plugin adds"
    raise ReidError(f"MODEL.NAME must be {valid}, got {name!r}{hint}")
