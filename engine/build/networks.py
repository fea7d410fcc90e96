"""From keys to networks."""

from torch import Tensor
from yacs.config import CfgNode

from modelling.backbones.catalogue import build_backbone, imagenet_state
from modelling.extractor import FeatureExtractor
from modelling.heads import BNNeck
from modelling.pooling import build_pooling
from modelling.projection_head import ProjectionHead
from utils.errors import ReidError


def build_extractor(cfg: CfgNode) -> FeatureExtractor:
    """The network with random weights.

    Raises:
        ReidError: if the backbone, its options or the pooling do not go together.
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
    if model.POOLING == "gem" and getattr(backbone, "pooled", False):
        raise ReidError(f"MODEL.POOLING gem needs a feature map, but {model.NAME} pools its tokens itself; set avg")
    pooling = build_pooling(model.POOLING)
    if model.HEAD == "projection":
        return FeatureExtractor(backbone, ProjectionHead(channels, pooling=pooling))
    return FeatureExtractor(backbone, BNNeck(channels, pooling))


def initial_weights(cfg: CfgNode) -> dict[str, Tensor] | None:
    """ImageNet weights for the backbone, or None where MODEL.PRETRAINED is False."""
    return imagenet_state(cfg.MODEL.NAME, tuple(cfg.INPUT.SIZE_TEST)) if cfg.MODEL.PRETRAINED else None
