"""From keys to networks."""

import logging

from torch import nn
from yacs.config import CfgNode

from configs import SCHEMA
from modelling.backbones import BACKBONES, backbone
from modelling.heads import HEADS, POOLINGS
from modelling.network import ReidNetwork
from modelling.weights.foreign import ForeignWeights, imagenet_weights
from utils.errors import ReidError, lookup

logger = logging.getLogger(__name__)


def build_extractor(cfg: CfgNode) -> ReidNetwork:
    """The network with random weights.

    Raises:
        ReidError: if the backbone, its options, its width or the pooling do not go together.
    """
    model = cfg.MODEL
    network = _build_backbone(cfg)
    channels = int(network.out_channels)  # type: ignore[arg-type]
    if cfg.MODEL.BACKBONE_EMB_SIZE not in (0, channels):
        raise ReidError(
            f"MODEL.BACKBONE_EMB_SIZE must be the width of {model.NAME}, {channels}, got {model.BACKBONE_EMB_SIZE}; "
            "leave it out (0 = found by itself); MODEL.EMBEDDING_DIM sets the dimension of an embedding"
        )
    if model.POOLING == "gem" and getattr(network, "pooled", False):
        raise ReidError(f"MODEL.POOLING gem needs a feature map, but {model.NAME} pools its tokens itself; set avg")
    if model.POOLING == "gem" and (negative := float(getattr(network, "negative", 0.0))):
        logger.warning(
            "MODEL.POOLING gem takes values below 0 for 0: %.0f %% of the map of %s are such; avg and max see them",
            100 * negative, model.NAME,
        )  # fmt: skip
    pooling = lookup(POOLINGS, model.POOLING, "MODEL.POOLING")
    head = lookup(HEADS, model.HEAD, "MODEL.HEAD")(channels, pooling, model.EMBEDDING_DIM)
    return ReidNetwork(network, head)


def _build_backbone(cfg: CfgNode) -> nn.Module:
    """The backbone with the options that it takes; ``last_stride`` is the option of MODEL.LAST_STRIDE.

    Raises:
        ReidError: if the name is unknown, or an option is set that the backbone does not take.
    """
    model, record = cfg.MODEL, backbone(cfg.MODEL.NAME)
    for option in sorted({option for other in BACKBONES.values() for option in other.options} - {*record.options}):
        key, value = f"MODEL.{option.upper()}", getattr(model, option.upper())
        if value != SCHEMA[key].default:
            owners = ", ".join(name for name, other in BACKBONES.items() if option in other.options)
            raise ReidError(
                f"{key} belongs to {owners}, got {value} for {model.NAME}; leave it at {SCHEMA[key].default}"
            )
    options = {option: getattr(model, option.upper()) for option in record.options}
    return record.build(input_size=tuple(cfg.INPUT.SIZE_TEST), **options)


def initial_weights(cfg: CfgNode) -> ForeignWeights | None:
    """ImageNet weights for the backbone, or None where MODEL.PRETRAINED is False.

    Raises:
        ReidError: if there are none, or they cannot be fetched.
    """
    return imagenet_weights(cfg.MODEL.NAME) if cfg.MODEL.PRETRAINED else None


def compare_pixels(cfg: CfgNode) -> None:
    """Say so where ImageNet weights were trained on images normalized in another way."""
    pixels, images = cfg.INPUT, backbone(cfg.MODEL.NAME).preprocessing
    mean, std = list(images.mean), list(images.std)
    if (mean, std) != (pixels.PIXEL_MEAN, pixels.PIXEL_STD):
        logger.warning(
            "the ImageNet weights of %s were trained with INPUT.PIXEL_MEAN %s INPUT.PIXEL_STD %s, got %s and %s",
            cfg.MODEL.NAME, mean, std, pixels.PIXEL_MEAN, pixels.PIXEL_STD,
        )  # fmt: skip
