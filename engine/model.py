"""A network ready for use, from one file: no training data and no configuration file are needed."""

import hashlib
import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from datasets.transforms import NetworkInput
from engine import build, start
from engine.checkpoint import Checkpoint, Weights, architecture_of, check_architecture
from engine.cli import Settings
from engine.initial import initialise
from modelling.network import ReidNetwork
from utils.errors import ReidError

logger = logging.getLogger(__name__)

# What a use of a model takes from its checkpoint; everything else is a matter of the use.
_KEPT = ("MODEL.", "INPUT.", "DATASETS.", "DATALOADER.")


@dataclass(frozen=True)
class TrainedModel:
    """A network with its weights, and the images it wants.

    Attributes:
        network: in evaluation mode.
        backbone: its name, MODEL.NAME.
        network_input: from uint8 pixels of ``size`` to what the network sees.
        path: the file the weights came from.
        sha256: of that file.
        size: height and width in pixels.
        mean: of R, G, B in [0, 1], subtracted.
        std: of R, G, B, divided by.
        interpolation: of the resize.
        scale: low resolution that images are given, 1 = none.
        antialias: of the low resolution.
    """

    network: ReidNetwork
    backbone: str
    network_input: NetworkInput
    path: Path
    sha256: str
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    scale: int
    antialias: bool


def load_model(settings: Settings) -> TrainedModel:
    """Rebuild the network of MODEL.PRETRAIN_PATH and fill it.

    Raises:
        ReidError: as :func:`trained_weights`, or if the weights do not fit.
    """
    cfg, weights = trained_weights(settings, "inference")
    if cfg.DATASETS.LR_SOURCE == "disk" and cfg.INPUT.SCALE > 1:
        logger.warning(
            "DATASETS.LR_SOURCE disk is for training and test; here x%d lowers the resolution of the network's input",
            cfg.INPUT.SCALE,
        )
    warn_of_scale(weights, [cfg.INPUT.SCALE])
    logger.info("images at %dx%d, resolution x%d", *cfg.INPUT.SIZE_TEST, cfg.INPUT.SCALE)
    network = build.build_extractor(cfg)
    initialise(network, cfg, weights)
    return TrainedModel(
        network.eval(),
        cfg.MODEL.NAME,
        build.build_input(cfg),
        weights.path,
        _sha256(weights.path),
        (cfg.INPUT.SIZE_TEST[0], cfg.INPUT.SIZE_TEST[1]),
        tuple(cfg.INPUT.PIXEL_MEAN),
        tuple(cfg.INPUT.PIXEL_STD),
        cfg.INPUT.INTERPOLATION,
        cfg.INPUT.SCALE,
        cfg.INPUT.LR_ANTIALIAS,
    )


def trained_weights(settings: Settings, purpose: str) -> tuple[CfgNode, Weights]:
    """The weights of MODEL.PRETRAIN_PATH and the configuration in which they are used.

    Args:
        settings: what the user asked for.
        purpose: what needs the model; the word in the error message.

    Raises:
        ReidError: if there are none, they are those of a backbone alone, or the settings contradict them.
    """
    weights = start.given_weights(settings)
    if weights is None or not (isinstance(weights, Checkpoint) or weights.is_reid_model):
        given = "nothing" if weights is None else f"{weights.path}, which holds a {weights.kind}"
        raise ReidError(f"{purpose} needs MODEL.PRETRAIN_PATH, a trained model, got {given}")
    check_architecture(weights, {**settings.file, **settings.overrides})
    return settings.resolve(_kept(weights, settings), above_file=start.trained_pixels(settings, weights)), weights


def warn_of_scale(weights: Weights, scales: Collection[int]) -> None:
    """Say so where none of the resolutions in use is one that the model was trained at."""
    twins = set[int]()
    if isinstance(weights, Checkpoint):
        trained = set(weights.config["INPUT.LR_SCALES"]) or {weights.card.scale}
        twins = {1} if weights.card.method.startswith("octuplet") else twins
    else:
        trained = {weights.preprocessing.scale if weights.preprocessing else 1}
    if not (trained | twins) & set(scales):
        low = max(trained)
        logger.warning("the model was trained at x%d (--scale %d uses it there)", low, low)


def _kept(weights: Weights, settings: Settings) -> dict[str, Any]:
    """What the file decides. The resolution is a matter of the use: that of the training is no silent part of it."""
    resolution = {"INPUT.SCALE": settings.get("INPUT.SCALE"), "INPUT.LR_SCALES": []}
    if isinstance(weights, Checkpoint):
        kept = {name: value for name, value in weights.config.items() if name.startswith(_KEPT)}
        if "DATASETS.NAMES" in {**settings.file, **settings.overrides}:
            kept["DATASETS.TEST_NAMES"] = ""  # who names a data set means that one
        return kept | resolution
    return start.preprocessing_of(weights, settings) | architecture_of(weights) | resolution


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
