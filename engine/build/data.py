"""From keys to data: splits, loaders, network inputs."""

import ast
import logging
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from yacs.config import CfgNode

from datasets.checks import check_files, check_test, check_train, refuse_shared_identities
from datasets.datamodule import LoaderSettings
from datasets.preprocessing import Preprocessing
from datasets.readers import read_dataset
from datasets.readers.concat import concat_datasets
from datasets.sample import ReidSplits
from datasets.transforms import Augmentation, NetworkInput
from utils.errors import ReidError

logger = logging.getLogger(__name__)


class TrainingData(NamedTuple):
    """What a run trains and validates on.

    Attributes:
        splits: the training images of all sources; query and gallery of the set that is validated.
        validated_on: the name of the latter.
    """

    splits: ReidSplits
    validated_on: str


def build_training_data(cfg: CfgNode) -> TrainingData:
    """Read what is trained on, and check it before anything runs.

    Raises:
        ReidError: for a missing folder, a bad file, or splits that cannot work.
    """
    trained, validated = _training_names(cfg), test_names(cfg)[0]
    parts = {name: _read(cfg, name, with_train=name in trained) for name in dict.fromkeys((validated, *trained))}
    for part in parts.values():  # each by itself: joined, the identities of the others have new numbers
        refuse_shared_identities(part)
    first = parts[validated]
    splits = first if trained == [validated] else concat_datasets(list(parts.values()))
    splits = _checked_files(cfg, replace(splits, name="+".join(parts[name].name for name in trained)))
    instances = cfg.DATALOADER.NUM_INSTANCE
    for warning in check_train(splits, cfg.SOLVER.IMS_PER_BATCH // instances, instances):
        logger.warning("%s", warning)
    _check_test(cfg, replace(splits, name=first.name))
    return TrainingData(splits, first.name)


def build_test_data(cfg: CfgNode, name: str) -> ReidSplits:
    """Read what is tested on, without its training images, and check it before anything runs.

    Raises:
        ReidError: for a missing folder, a bad file, or splits that cannot work.
    """
    splits = _checked_files(cfg, _read(cfg, name, with_train=False))
    _check_test(cfg, splits)
    return splits


def test_names(cfg: CfgNode) -> list[str]:
    """The data sets that a checkpoint is evaluated on; training validates on the first."""
    return _names(cfg.DATASETS.TEST_NAMES) or _training_names(cfg)


def camera_rule(cfg: CfgNode, splits: ReidSplits) -> bool:
    """Whether gallery images of a query's own identity and camera are ignored."""
    return bool(cfg.TEST.CAMERA_RULE and splits.cameras)


def _training_names(cfg: CfgNode) -> list[str]:
    return _names(cfg.DATASETS.NAMES) or [cfg.DATASETS.NAMES]  # read_dataset refuses an empty name


def _names(text: str) -> list[str]:
    """One name, or a tuple or list of them written as in Python; ``('market1501')`` is one name too."""
    text = text.strip()
    if not text.startswith(("(", "[", "'", '"')):
        return [text] if text else []
    try:
        given = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        given = ()
    given = [given] if isinstance(given, str) else given if isinstance(given, (tuple, list)) else ()
    names = [name.strip() if isinstance(name, str) else "" for name in given]
    if not names or not all(names) or len(set(names)) < len(names):
        raise ReidError(
            "DATASETS.NAMES and TEST_NAMES must be a name, or different names like ('market1501','cuhk03'), "
            f"got {text}"
        )
    return names


def _read(cfg: CfgNode, name: str, *, with_train: bool) -> ReidSplits:
    return read_dataset(name, Path(cfg.DATASETS.ROOT_DIR), with_train=with_train, seed=cfg.DATASETS.SPLIT_SEED)


def _checked_files(cfg: CfgNode, splits: ReidSplits) -> ReidSplits:
    if not cfg.DATASETS.CHECK_FILES:
        return splits
    return check_files(splits, cfg.DATASETS.ON_BAD_FILE, workers=max(1, cfg.DATALOADER.NUM_WORKERS))


def _check_test(cfg: CfgNode, splits: ReidSplits) -> None:
    warnings = check_test(splits, camera_rule=camera_rule(cfg, splits))
    images = len(splits.query) + len(splits.gallery)
    if cfg.TRAINER.DEVICES > images:
        raise ReidError(f"TRAINER.DEVICES must be at most the {images} test images, got {cfg.TRAINER.DEVICES}")
    if cfg.TEST.CAMERA_RULE and not splits.cameras:
        logger.warning("%s tells no cameras: the camera rule is off, a query may find its own camera", splits.name)
    for warning in warnings:
        logger.warning("%s", warning)


def loader_settings(cfg: CfgNode) -> LoaderSettings:
    """How images become batches."""
    return LoaderSettings(
        preprocessing=preprocessing_of(cfg),
        train_size=tuple(cfg.INPUT.SIZE_TRAIN),
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
    return NetworkInput(preprocessing_of(cfg), trained_scales(cfg))


def preprocessing_of(cfg: CfgNode) -> Preprocessing:
    """What a test's images become; those of training differ in size and scale."""
    pixels = cfg.INPUT
    return Preprocessing(
        tuple(pixels.SIZE_TEST),
        tuple(pixels.PIXEL_MEAN),
        tuple(pixels.PIXEL_STD),
        pixels.INTERPOLATION,
        pixels.SCALE,
        pixels.LR_ANTIALIAS,
    )


def trained_scales(cfg: CfgNode) -> list[int]:
    """The low-resolution scales that training images may get."""
    return sorted(set(cfg.INPUT.LR_SCALES)) or [cfg.INPUT.SCALE]
