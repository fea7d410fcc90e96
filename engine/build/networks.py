"""From keys to networks."""

import logging

from torch import Tensor
from yacs.config import CfgNode

from modelling.backbones.catalogue import build_backbone, imagenet_pixels, imagenet_state
from modelling.extractor import FeatureExtractor
from modelling.heads import BNNeck
from modelling.pooling import build_pooling
from modelling.projection_head import ProjectionHead
from utils.errors import ReidError

logger = logging.getLogger(__name__)

_PROJECTION_DIM = 512  # of all published OSNets


def build_extractor(cfg: CfgNode) -> FeatureExtractor:
    """The network with random weights.

    Raises:
        ReidError: if the backbone, its options, its width or the pooling do not go together.
    """
    model = cfg.MODEL
    backbone = build_backbone(
        model.NAME,
        last_stride=model.LAST_STRIDE,
        stem_relu=model.STEM_RELU,
        stem_pool=model.STEM_POOL,
        input_size=tuple(cfg.INPUT.SIZE_TEST),
    )
    channels = int(backbone.out_channels)  # type: ignore[arg-type]
    if cfg.MODEL.BACKBONE_EMB_SIZE not in (0, channels):
        raise ReidError(
            f"MODEL.BACKBONE_EMB_SIZE must be the width of {model.NAME}, {channels}, got {model.BACKBONE_EMB_SIZE}; "
            "leave it out (0 = found by itself); MODEL.EMBEDDING_DIM sets the dimension of an embedding"
        )
    if model.POOLING == "gem" and getattr(backbone, "pooled", False):
        raise ReidError(f"MODEL.POOLING gem needs a feature map, but {model.NAME} pools its tokens itself; set avg")
    if model.POOLING == "gem" and (negative := float(getattr(backbone, "negative", 0.0))):
        logger.warning(
            "MODEL.POOLING gem takes values below 0 for 0: %.0f %% of the map of %s are such; avg and max see them",
            100 * negative, model.NAME,
        )  # fmt: skip
    pooling = build_pooling(model.POOLING)
    if model.HEAD == "projection":
        return FeatureExtractor(backbone, ProjectionHead(channels, model.EMBEDDING_DIM or _PROJECTION_DIM, pooling))
    return FeatureExtractor(backbone, BNNeck(channels, pooling, model.EMBEDDING_DIM))


def initial_weights(cfg: CfgNode) -> dict[str, Tensor] | None:
    """ImageNet weights for the backbone, or None where MODEL.PRETRAINED is False.

    Raises:
        ReidError: if there are none, or they cannot be fetched.
    """
    if not cfg.MODEL.PRETRAINED:
        return None
    compare_pixels(cfg)
    return imagenet_state(cfg.MODEL.NAME, tuple(cfg.INPUT.SIZE_TEST))


def compare_pixels(cfg: CfgNode) -> None:
    """Say so where ImageNet weights were trained on images normalised in another way."""
    name, pixels = cfg.MODEL.NAME, cfg.INPUT
    mean, std = imagenet_pixels(name)
    if (list(mean), list(std)) != (pixels.PIXEL_MEAN, pixels.PIXEL_STD):
        logger.warning(
            "the ImageNet weights of %s were trained with INPUT.PIXEL_MEAN %s INPUT.PIXEL_STD %s, got %s and %s",
            name, list(mean), list(std), pixels.PIXEL_MEAN, pixels.PIXEL_STD,
        )  # fmt: skip
