"""From keys to networks."""

import torch
from yacs.config import CfgNode

from modelling.backbones.resnet import ResNetBackbone, imagenet_weights
from modelling.extractor import FeatureExtractor


def build_extractor(cfg: CfgNode) -> FeatureExtractor:
    """The network with random weights."""
    return FeatureExtractor(
        ResNetBackbone(cfg.MODEL.NAME, last_stride=cfg.MODEL.LAST_STRIDE, stem_relu=cfg.MODEL.STEM_RELU)
    )


def initial_weights(cfg: CfgNode) -> dict[str, torch.Tensor] | None:
    """ImageNet weights for the backbone, or None where MODEL.PRETRAINED is False."""
    return imagenet_weights(cfg.MODEL.NAME) if cfg.MODEL.PRETRAINED else None
