"""From keys to data: splits, loaders, network inputs."""

import logging
from pathlib import Path

from yacs.config import CfgNode

from datasets.datamodule import LoaderSettings
from datasets.file_check import check_files
from datasets.readers import read_dataset
from datasets.sample import ReidSplits
from datasets.splits import check_test, check_train
from datasets.transforms import Augmentation, NetworkInput
from utils.errors import ReidError

logger = logging.getLogger(__name__)


def build_splits(cfg: CfgNode, *, with_train: bool) -> ReidSplits:
    """Read the data set and check it before anything runs.

    Raises:
        ReidError: for a missing folder, a bad file, or splits that cannot work.
    """
    splits = read_dataset(cfg.DATASETS.NAMES, Path(cfg.DATASETS.ROOT_DIR), with_train=with_train)
    if cfg.DATASETS.CHECK_FILES:
        splits = check_files(splits, cfg.DATASETS.ON_BAD_FILE, workers=max(1, cfg.DATALOADER.NUM_WORKERS))
    instances = cfg.DATALOADER.NUM_INSTANCE
    warnings = check_train(splits, cfg.SOLVER.IMS_PER_BATCH // instances, instances) if with_train else []
    images = len(splits.query) + len(splits.gallery)
    if cfg.TRAINER.DEVICES > images:
        raise ReidError(f"TRAINER.DEVICES must be at most the {images} test images, got {cfg.TRAINER.DEVICES}")
    for warning in (*warnings, *check_test(splits, camera_rule=cfg.TEST.CAMERA_RULE)):
        logger.warning("%s", warning)
    return splits


def loader_settings(cfg: CfgNode) -> LoaderSettings:
    """How images become batches."""
    return LoaderSettings(
        train_size=tuple(cfg.INPUT.SIZE_TRAIN),
        test_size=tuple(cfg.INPUT.SIZE_TEST),
        interpolation=cfg.INPUT.INTERPOLATION,
        augmentation=Augmentation(cfg.INPUT.PROB, cfg.INPUT.PADDING, cfg.INPUT.RE_PROB),
        batch=cfg.SOLVER.IMS_PER_BATCH,
        instances=cfg.DATALOADER.NUM_INSTANCE,
        resample=cfg.DATALOADER.USE_RESAMPLING,
        test_batch=cfg.TEST.IMS_PER_BATCH,
        workers=cfg.DATALOADER.NUM_WORKERS,
        seed=cfg.REPRODUCIBLE_SEED,
        scales=tuple(trained_scales(cfg)),
    )


def build_input(cfg: CfgNode) -> NetworkInput:
    """What turns uint8 batches into network inputs."""
    return NetworkInput(
        cfg.INPUT.PIXEL_MEAN,
        cfg.INPUT.PIXEL_STD,
        antialias=cfg.INPUT.LR_ANTIALIAS,
        choices=trained_scales(cfg),
    )


def trained_scales(cfg: CfgNode) -> list[int]:
    """The low-resolution scales that training images may get."""
    return sorted(set(cfg.INPUT.LR_SCALES)) or [cfg.INPUT.SCALE]
