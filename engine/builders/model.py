"""From keys to networks."""

import logging

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from yacs.config import CfgNode

from configs import SCHEMA
from modelling.backbones import BACKBONES, backbone
from modelling.heads import HEADS, POOLINGS
from modelling.network import ReidNetwork
from utils.errors import ReidError, lookup, one_line

logger = logging.getLogger(__name__)

_AMPLE = 64  # pixels: all networks take images with longer sides


def build_network(cfg: CfgNode) -> ReidNetwork:
    """The network with random weights.

    Raises:
        ReidError: if the backbone, its options, its width, the pooling and the size of the images do not go together.
    """
    model = cfg.MODEL
    network = _build_backbone(cfg)
    channels = int(network.out_channels)  # type: ignore[arg-type]
    if model.BACKBONE_EMB_SIZE not in (0, channels):
        raise ReidError(
            f"MODEL.BACKBONE_EMB_SIZE must be the width of {model.NAME}, {channels}, got {model.BACKBONE_EMB_SIZE}; "
            "leave it out (0 = inferred); MODEL.EMBEDDING_DIM sets the dimension of an embedding"
        )
    if model.POOLING.startswith("gem") and getattr(network, "pooled", False):
        raise ReidError(
            f"MODEL.POOLING {model.POOLING} needs a feature map, but {model.NAME} pools its tokens itself; set avg"
        )
    if model.POOLING.startswith("gem") and (negative := float(getattr(network, "negative", 0.0))):
        logger.warning(
            "MODEL.POOLING %s takes values below 0 for 0: %.0f %% of the map of %s are such; avg and max use them",
            model.POOLING, 100 * negative, model.NAME,
        )  # fmt: skip
    pooling = lookup(POOLINGS, model.POOLING, "MODEL.POOLING")
    head = lookup(HEADS, model.HEAD, "MODEL.HEAD")(network, pooling, model.EMBEDDING_DIM)
    whole = ReidNetwork(network, head, model.RETRIEVAL_FEATURE)
    if cfg.TRAINER.SYNC_BATCHNORM:
        _check_normalization(whole, model.NAME)
    for key in ("SIZE_TRAIN", "SIZE_TEST"):
        _check_size(whole, key, cfg.INPUT[key], model.NAME)
    return whole


def _check_normalization(network: ReidNetwork, name: str) -> None:
    """Refuse batch normalization that does more than torch's own, because torch would replace it by its own."""
    kinds = {type(module) for module in network.modules() if isinstance(module, _BatchNorm)}
    if others := sorted(kind.__name__ for kind in kinds - {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d}):
        raise ReidError(
            f"TRAINER.SYNC_BATCHNORM True needs torch's own batch normalization, but {name} has {', '.join(others)}; "
            "set it False, or take another network"
        )


def _check_size(network: ReidNetwork, key: str, size: list[int], name: str) -> None:
    """Refuse images of which nothing is left at the network's end; a try with one image of that size tells."""
    if min(size) >= _AMPLE:
        return
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, *size))
    except (RuntimeError, ValueError) as error:
        height, width = size
        raise ReidError(
            f"INPUT.{key} must be as large as {name} needs it, got {size}: {one_line(error)[:200]}; enlarge it, "
            f"e.g. to {[max(height, _AMPLE), max(width, _AMPLE // 2)]}"
        ) from error
    network.train()


def _build_backbone(cfg: CfgNode) -> nn.Module:
    """The backbone with its options; the key of the option ``last_stride`` is MODEL.LAST_STRIDE.

    Raises:
        ReidError: if the name is unknown, if an option is set that the backbone does not have, or if training and
            test have two image sizes and the backbone takes one.
    """
    model, record = cfg.MODEL, backbone(cfg.MODEL.NAME)
    train, test = cfg.INPUT.SIZE_TRAIN, cfg.INPUT.SIZE_TEST
    if record.fixed_size and train != test:
        raise ReidError(
            f"INPUT.SIZE_TRAIN and INPUT.SIZE_TEST must be equal for {model.NAME}, whose position embeddings "
            f"are made for one size, got {train} and {test}; set both to the size of the training"
        )
    for option in sorted({option for other in BACKBONES.values() for option in other.options} - {*record.options}):
        key, value = f"MODEL.{option.upper()}", getattr(model, option.upper())
        if value != SCHEMA[key].default:
            owners = ", ".join(name for name, other in BACKBONES.items() if option in other.options)
            raise ReidError(
                f"{key} belongs to {owners}, got {value} for {model.NAME}; leave it at {SCHEMA[key].default}"
            )
    options = {option: getattr(model, option.upper()) for option in record.options}
    return record.build(input_size=tuple(test), **options)
