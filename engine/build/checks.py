"""Keys that are fine alone and wrong together."""

import logging

import torch
from yacs.config import CfgNode

from engine.build.data import trained_scales
from modelling.backbones import backbone
from utils.errors import ReidError
from utils.resolution import SMALLEST_SIDE, low_resolution_size

logger = logging.getLogger(__name__)


def check_training(cfg: CfgNode) -> None:
    """Refuse keys of the training that are fine alone and wrong together; a test has no use for them.

    Raises:
        ReidError: naming both keys.
    """
    batch, instances = cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE
    if batch % instances or batch < 2 * instances:
        raise ReidError(
            "SOLVER.IMS_PER_BATCH counts images: it must be DATALOADER.NUM_INSTANCE times 2, 3, ..., "
            f"got {batch} and {instances}; the nearest is {max(2, round(batch / instances)) * instances}"
        )
    if cfg.SOLVER.WARMUP_EPOCHS >= cfg.SOLVER.MAX_EPOCHS and cfg.SOLVER.WARMUP_EPOCHS:
        logger.warning(
            "SOLVER.WARMUP_EPOCHS %d of SOLVER.MAX_EPOCHS %d: the rate never reaches SOLVER.BASE_LR",
            cfg.SOLVER.WARMUP_EPOCHS, cfg.SOLVER.MAX_EPOCHS,
        )  # fmt: skip


def check_consistency(cfg: CfgNode) -> None:
    """Refuse keys that are fine alone and wrong together, in training and in a test.

    Raises:
        ReidError: naming both keys.
    """
    _check_size(cfg)
    _warn_of_scales(cfg)
    if cfg.DATASETS.ON_BAD_FILE == "skip" and not cfg.DATASETS.CHECK_FILES:
        raise ReidError("DATASETS.ON_BAD_FILE skip works at the check: set DATASETS.CHECK_FILES True too")
    if cfg.TRAINER.ACCELERATOR == "cuda" and not torch.cuda.is_available():
        raise ReidError("TRAINER.ACCELERATOR cuda needs a CUDA device, but torch sees none; set it to auto")
    devices = torch.cuda.device_count()
    if cfg.TRAINER.ACCELERATOR != "cpu" and 0 < devices < cfg.TRAINER.DEVICES:
        raise ReidError(f"TRAINER.DEVICES must be at most the number of GPUs, {devices}, got {cfg.TRAINER.DEVICES}")
    on_gpu = cfg.TRAINER.ACCELERATOR != "cpu" and devices
    if cfg.TRAINER.PRECISION == "bf16-mixed" and on_gpu and not torch.cuda.is_bf16_supported(False):
        raise ReidError("TRAINER.PRECISION bf16-mixed needs a GPU that computes bf16, this one does not; set 32-true")


def _check_size(cfg: CfgNode) -> None:
    train, test = cfg.INPUT.SIZE_TRAIN, cfg.INPUT.SIZE_TEST
    if backbone(cfg.MODEL.NAME).fixed_size and train != test:
        raise ReidError(
            f"INPUT.SIZE_TRAIN and INPUT.SIZE_TEST must be equal for {cfg.MODEL.NAME}, whose position embeddings "
            f"are made for one size, got {train} and {test}; set both alike, to test to the size of the training"
        )


def _warn_of_scales(cfg: CfgNode) -> None:
    """Say so where a scale leaves next to nothing of the network's input; makelr.py has checked its files."""
    if cfg.DATASETS.LR_SOURCE == "disk":
        return
    scale = max(*trained_scales(cfg), *cfg.TEST.SCALES, 1)
    height, width = min(cfg.INPUT.SIZE_TRAIN, cfg.INPUT.SIZE_TEST, key=min)
    low = low_resolution_size(height, width, scale)
    if scale > 1 and min(low) < SMALLEST_SIDE:
        logger.warning(
            "scale %d leaves %d x %d pixels of the network's input of %d x %d: hardly a person",
            scale, *low, height, width,
        )  # fmt: skip
