"""Load a network for use from one file, without training data and without a configuration file."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from configs import SCHEMA, get_cfg, to_yaml, with_values
from configs.schema import flatten
from datasets.preprocessing import Preprocessing
from engine.builders.model import build_network
from engine.checkpoint import Checkpoint, RunCard
from engine.preprocessing import preprocessing_of, vectors_of
from engine.reports import origin_of, report_of, without_folders
from engine.settings import Settings
from engine.weights import initialize, trained_weights, warn_of_scale
from modelling.backbones import Backbone, backbone
from modelling.network import ReidNetwork
from modelling.weights.weights import Weights

logger = logging.getLogger(__name__)

# What a file that is handed on has from the run, and what it must not tell.
_OF_RUN = ("INPUT.SCALE", "INPUT.LR_SCALES")
_OF_MACHINE = (
    "MODEL.PRETRAIN_PATH", "MODEL.RESUME_TRAINING", "DATASETS.ROOT_DIR", "DATASETS.CACHE_DIR", "LOGS_DIR", "RUNS_DIR",
    "OUTPUT_DIR",
)  # fmt: skip


@dataclass(frozen=True)
class TrainedModel:
    """A network with its weights, and the images it wants.

    Attributes:
        network: in evaluation mode.
        record: of its backbone.
        preprocessing: from an image to the network's input.
        path: the file of the weights.
        sha256: of that file, or of the checkpoint that it was exported from.
        first_camera: number in the data of the camera that a network with cameras knows as its first.
        card: describes the run, with the settings in which the model is used and no path of this machine.
        report: of a test of the weights, see :func:`engine.reports.report_of`; empty = there is none.
    """

    network: ReidNetwork
    record: Backbone
    preprocessing: Preprocessing
    path: Path
    sha256: str
    first_camera: int = 1
    card: RunCard | None = None
    report: Mapping[str, Any] = field(default_factory=dict)


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
    sha256 = origin_of(weights)
    card, report = card_of(cfg, weights), report_of(weights, sha256, vectors_of(cfg))
    return TrainedModel(network.eval(), record, images, weights.path, sha256, first_camera, card, report)


def card_of(cfg: CfgNode, weights: Weights) -> RunCard:
    """What weights that are handed on say about their run, and how they are used.

    Args:
        cfg: in which they are used.
        weights: ours or those of another project.

    Returns:
        A card without data digest, and without the paths of this machine.
    """
    use = flatten(cfg)
    of_use = {name: use[name] for name in use if name.startswith(("MODEL.", "INPUT.")) and name not in _OF_RUN}
    values = {**(weights.config or use), **of_use, **{name: SCHEMA[name].default for name in _OF_MACHINE}}
    values |= {name: without_folders(values[name]) for name in ("DATASETS.NAMES", "DATASETS.TEST_NAMES")}
    card = weights.card if isinstance(weights, Checkpoint) else None
    low = tuple(sorted(weights.scales))
    if card is None:
        card = RunCard("", "", weights.num_ids or 0, max(low), weights.kind)
    return replace(card, config=to_yaml(with_values(get_cfg(), values)), data="", scales=low)
