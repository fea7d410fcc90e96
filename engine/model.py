"""Load a network for use from one file, without training data and without a configuration file."""

import logging
from dataclasses import dataclass
from pathlib import Path

from datasets.preprocessing import Preprocessing
from engine.builders.model import build_network
from engine.preprocessing import preprocessing_of
from engine.settings import Settings
from engine.weights import initialize, trained_weights, warn_of_scale
from modelling.backbones import Backbone, backbone
from modelling.network import ReidNetwork
from utils.files import sha256_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedModel:
    """A network with its weights, and the images it wants.

    Attributes:
        network: in evaluation mode.
        record: of its backbone.
        preprocessing: from an image to the network's input.
        path: the file of the weights.
        sha256: of that file.
        first_camera: number in the data of the camera that a network with cameras knows as its first.
    """

    network: ReidNetwork
    record: Backbone
    preprocessing: Preprocessing
    path: Path
    sha256: str
    first_camera: int = 1


def load_model(settings: Settings) -> TrainedModel:
    """Rebuild the network of MODEL.PRETRAIN_PATH and fill it.

    Raises:
        ReidError: as :func:`engine.weights.trained_weights`, or if the weights do not fit.
    """
    cfg, weights = trained_weights(settings, "inference")
    images = preprocessing_of(cfg)
    if cfg.DATASETS.LR_SOURCE == "disk" and images.scale > 1:
        logger.warning(
            "DATASETS.LR_SOURCE disk is for training and test; here x%d lowers the resolution of the network's input",
            images.scale,
        )
    warn_of_scale(weights, [images.scale])
    logger.info("images at %dx%d, resolution x%d", *images.size, images.scale)
    network = build_network(cfg)
    initialize(network, cfg, weights)
    record, first_camera = backbone(cfg.MODEL.NAME), cfg.MODEL.FIRST_CAMERA
    return TrainedModel(network.eval(), record, images, weights.path, sha256_of(weights.path), first_camera)
