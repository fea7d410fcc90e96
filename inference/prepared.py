"""A network as the Extractor runs it."""

import torch

from inference.fusion import fold_batch_norms
from inference.hardware import is_resnet, type_of
from modelling.extractor import FeatureExtractor


def prepare(network: FeatureExtractor, backbone: str, device: torch.device, precision: str) -> FeatureExtractor:
    """Move and convert in place: channels last, the backbone in its precision, the head in float32.

    Args:
        network: in evaluation mode.
        backbone: its name in the configuration.
        device: that computes.
        precision: as :func:`inference.hardware.choose_precision` returns it.

    Returns:
        The network.
    """
    network.to(device).to(memory_format=torch.channels_last)
    if precision != "fp32" and is_resnet(backbone):
        fold_batch_norms(network.backbone)
    network.backbone.to(type_of(precision))
    return network
