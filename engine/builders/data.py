"""From keys to data: splits, low-resolution files, loaders, network inputs."""

import ast
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from pytorch_lightning.utilities import rank_zero_only
from yacs.config import CfgNode

from datasets.checks import check_files, check_test, check_train, find_copies, find_few, refuse_shared_identities
from datasets.colors import Colors
from datasets.datamodule import LoaderSettings, ReidDataModule
from datasets.low_resolution import LowResolutionFiles, find_low_resolution_files
from datasets.readers import own_data, read_dataset
from datasets.readers.concat import concat_datasets
from datasets.sample import ReidSplits, Sample
from datasets.transforms import Augmentation, NetworkInput
from engine.preprocessing import preprocessing_of
from engine.processes import num_processes
from utils.errors import ReidError
from utils.resolution import SMALLEST_SIDE, low_resolution_size

logger = logging.getLogger(__name__)


class TrainingData(NamedTuple):
    """The images of a run.

    Attributes:
        splits: the training images of all sources; query and gallery of the validation.
        validation_set: name of the data set of query and gallery.
    """

    splits: ReidSplits
    validation_set: str


def read_training_data(cfg: CfgNode) -> TrainingData:
    """Read the images of training and validation, and check them before anything runs.

    Raises:
        ReidError: for impossible batches, a missing folder, a bad file, or splits that cannot work.
    """
    _check_batches(cfg)
    train_names, first_name = _training_names(cfg), evaluation_sets(cfg)[0]
    names = dict.fromkeys((first_name, *train_names))
    parts = {name: _read(cfg, name, with_train=name in train_names) for name in names}
    for part in parts.values():  # each alone, because concatenation renumbers identities
        refuse_shared_identities(part)
    first = parts[first_name]
    splits = first if train_names == [first_name] else concat_datasets(list(parts.values()))
    splits = _with_good_files(cfg, replace(splits, name="+".join(parts[name].name for name in train_names)))
    instances = cfg.DATALOADER.NUM_INSTANCE
    for warning in check_train(splits, cfg.SOLVER.IMS_PER_BATCH // instances, instances):
        logger.warning("%s", warning)
    _check_test(cfg, replace(splits, name=first.name))
    _check_cameras(cfg, splits, splits.train, training=True)
    _check_cameras(cfg, replace(splits, name=first.name), splits.test)
    _warn_of_copies(splits)
    return TrainingData(splits, first.name)


def read_test_data(cfg: CfgNode, name: str, *, trained_here: bool = True) -> ReidSplits:
    """Read query and gallery of a data set, without its training images, and check them before anything runs.

    Args:
        cfg: the configuration.
        name: of the data set.
        trained_here: False = the network comes from another project: all of a folder of identities is its test.

    Raises:
        ReidError: for a missing folder, a bad file, or splits that cannot work.
    """
    splits = _with_good_files(cfg, _read(cfg, name, with_train=False, trained_here=trained_here))
    _check_test(cfg, splits)
    _check_cameras(cfg, splits, splits.test)
    _warn_of_copies(splits)
    return splits


def evaluation_sets(cfg: CfgNode) -> list[str]:
    """The data sets of an evaluation; training validates on the first."""
    return _names(cfg.DATASETS.TEST_NAMES, cfg) or _training_names(cfg)


def camera_rule(cfg: CfgNode, splits: ReidSplits) -> bool:
    """Whether gallery images of a query's own identity and camera are ignored."""
    return bool(cfg.TEST.CAMERA_RULE and splits.cameras)


def _training_names(cfg: CfgNode) -> list[str]:
    return _names(cfg.DATASETS.NAMES, cfg) or [cfg.DATASETS.NAMES]  # read_dataset refuses an empty name


def _names(text: str, cfg: CfgNode) -> list[str]:
    """One name, or several as a tuple or list in Python's syntax; ``('market1501')`` is one name too.

    What exists is a name, whatever it begins with: ``(old) set``.
    """
    text = text.strip()
    if not text.startswith(("(", "[", "'", '"')) or own_data(text, Path(cfg.DATASETS.ROOT_DIR)):
        return [text] if text else []
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = ()
    value = [value] if isinstance(value, str) else value if isinstance(value, (tuple, list)) else ()
    names = [name.strip() if isinstance(name, str) else "" for name in value]
    if not names or not all(names) or len(set(names)) < len(names):
        raise ReidError(
            "DATASETS.NAMES and TEST_NAMES must be a name, or different names like ('market1501','cuhk03'), "
            f"got {text}"
        )
    return names


def _read(cfg: CfgNode, name: str, *, with_train: bool, trained_here: bool = True) -> ReidSplits:
    root, seed = Path(cfg.DATASETS.ROOT_DIR), cfg.DATASETS.SPLIT_SEED
    return read_dataset(name, root, with_train=with_train, seed=seed, trained_here=trained_here)


def _with_good_files(cfg: CfgNode, splits: ReidSplits) -> ReidSplits:
    if not cfg.DATASETS.CHECK_FILES:
        if cfg.DATASETS.ON_BAD_FILE == "skip":
            raise ReidError(
                "DATASETS.ON_BAD_FILE skip needs the check of the files: set DATASETS.CHECK_FILES True too"
            )
        return splits
    return check_files(splits, cfg.DATASETS.ON_BAD_FILE, workers=max(1, cfg.DATALOADER.NUM_WORKERS))


def _check_test(cfg: CfgNode, splits: ReidSplits) -> None:
    warnings = check_test(splits, camera_rule=camera_rule(cfg, splits))
    images = len(splits.query) + len(splits.gallery)
    if num_processes(cfg) > images:
        raise ReidError(
            f"TRAINER.DEVICES x TRAINER.NUM_NODES must be at most the {images} test images, got {num_processes(cfg)}"
        )
    if cfg.TEST.CAMERA_RULE and not splits.cameras:
        logger.warning(
            "%s tells no cameras: the camera rule is off, a query may find images of its own camera", splits.name
        )
    for warning in (*warnings, *find_few(splits)):
        logger.warning("%s", warning)


def _first_camera(cfg: CfgNode, splits: ReidSplits, *, training: bool = False) -> int | None:
    """The camera that the network knows as its first; None if it is not told the cameras of these images."""
    is_told = cfg.MODEL.CAMERAS and splits.cameras and (training or cfg.TEST.CAMERAS)
    return int(cfg.MODEL.FIRST_CAMERA) if is_told else None


def _check_cameras(cfg: CfgNode, splits: ReidSplits, samples: Sequence[Sample], *, training: bool = False) -> None:
    """Refuse images of a camera that the network does not know, and say it where all cameras count as unknown."""
    count, first, last = cfg.MODEL.CAMERAS, cfg.MODEL.FIRST_CAMERA, cfg.MODEL.FIRST_CAMERA + cfg.MODEL.CAMERAS - 1
    if cfg.TEST.CAMERAS and not count:
        raise ReidError(
            f"TEST.CAMERAS True needs a network that looks at cameras (MODEL.CAMERAS above 0), got {cfg.MODEL.NAME} "
            "without; set TEST.CAMERAS False"
        )
    if not count:
        return
    if _first_camera(cfg, splits, training=training) is None:
        reason = "TEST.CAMERAS is False" if splits.cameras else f"{splits.name} tells none"
        images = "training" if training else "test"
        logger.info(
            "cameras of %s images: unknown (%s), so the mean of the network's %d camera vectors counts",
            images, reason, count,
        )  # fmt: skip
        return
    if others := sorted({sample.camera_id for sample in samples if not first <= sample.camera_id <= last}):
        remedy = "set them by the cameras of the data" if training else "set TEST.CAMERAS False for other cameras"
        raise ReidError(
            f"{splits.name} has images of camera {others[0]}, but MODEL.CAMERAS {count} and MODEL.FIRST_CAMERA "
            f"{first} mean the cameras {first} to {last}; {remedy}"
        )


def _warn_of_copies(splits: ReidSplits) -> None:
    if getattr(rank_zero_only, "rank", 0) == 0:  # of several processes, one is enough
        for warning in find_copies(splits):
            logger.warning("%s", warning)


def _augmentation(cfg: CfgNode) -> Augmentation:
    images = cfg.INPUT
    colors = Colors(images.AUTO_AUGMENT_PROB, images.COLOR_JITTER_PROB, images.GRAYSCALE_PROB, images.BLUR_PROB)
    return Augmentation(images.FLIP_PROB, images.PADDING, images.RE_PROB, colors)


def build_datamodule(
    cfg: CfgNode,
    splits: ReidSplits,
    test_scales: Sequence[int],
    train_scales: Sequence[int] = (),
    resume_at: tuple[int, int] = (0, 0),
) -> ReidDataModule:
    """Loaders over the splits, with low-resolution files if DATASETS.LR_SOURCE is disk.

    Args:
        cfg: the configuration.
        splits: the images.
        test_scales: low-resolution scales of query and gallery.
        train_scales: those of training.
        resume_at: epoch and batch at which training goes on.

    Raises:
        ReidError: if a low-resolution folder or file is missing, or if a key does not go together with files.
    """
    settings = LoaderSettings(
        preprocessing=preprocessing_of(cfg),
        train_size=tuple(cfg.INPUT.SIZE_TRAIN),
        augmentation=_augmentation(cfg),
        batch=cfg.SOLVER.IMS_PER_BATCH,
        instances=cfg.DATALOADER.NUM_INSTANCE,
        resample=cfg.DATALOADER.USE_RESAMPLING,
        test_batch=cfg.TEST.IMS_PER_BATCH,
        workers=cfg.DATALOADER.NUM_WORKERS,
        seed=cfg.REPRODUCIBLE_SEED,
        scales=tuple(trained_scales(cfg)),
        first_camera=_first_camera(cfg, splits, training=True),
        first_test_camera=_first_camera(cfg, splits),
        cache_dir=Path(cfg.DATASETS.CACHE_DIR) if cfg.DATASETS.CACHE_DIR else None,
    )
    if cfg.DATASETS.LR_SOURCE == "online":
        _warn_of_small_images(cfg, max(*test_scales, *train_scales, 1))
        return ReidDataModule(splits, settings, resume_at, LowResolutionFiles())
    if not cfg.INPUT.LR_ANTIALIAS:
        raise ReidError(
            "INPUT.LR_ANTIALIAS False acts on DATASETS.LR_SOURCE online only, got disk: the files of makelr.py are "
            "low-passed; set one of them back"
        )
    files = find_low_resolution_files(splits, train_scales, test_scales)
    return ReidDataModule(splits, settings, resume_at, files)


def build_input(cfg: CfgNode) -> NetworkInput:
    """The module that turns uint8 batches into network inputs."""
    layout = torch.contiguous_format if cfg.TRAINER.LAYOUT == "contiguous" else torch.channels_last
    return NetworkInput(preprocessing_of(cfg), trained_scales(cfg), layout, cfg.INPUT.RE_VALUE)


def trained_scales(cfg: CfgNode) -> list[int]:
    """The low-resolution scales that training images may get."""
    return sorted(set(cfg.INPUT.LR_SCALES)) or [cfg.INPUT.SCALE]


def _check_batches(cfg: CfgNode) -> None:
    batch, instances = cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE
    if batch % instances or batch < 2 * instances:
        raise ReidError(
            "SOLVER.IMS_PER_BATCH counts images: it must be DATALOADER.NUM_INSTANCE times 2, 3, ..., "
            f"got {batch} and {instances}; the nearest is {max(2, round(batch / instances)) * instances}"
        )
    if cfg.SOLVER.GATHER_EMBEDDINGS and not cfg.DATALOADER.USE_RESAMPLING:
        raise ReidError(
            "SOLVER.GATHER_EMBEDDINGS True needs batches of one size: DATALOADER.USE_RESAMPLING must be True, got "
            "False; set it True, or SOLVER.GATHER_EMBEDDINGS False"
        )


def _warn_of_small_images(cfg: CfgNode, scale: int) -> None:
    """Warn if a scale leaves next to nothing of the network's input; makelr.py checks its own files."""
    height, width = min(cfg.INPUT.SIZE_TRAIN, cfg.INPUT.SIZE_TEST, key=min)
    low = low_resolution_size(height, width, scale)
    if scale > 1 and min(low) < SMALLEST_SIDE:
        logger.warning(
            "scale %d leaves %d x %d pixels of the network's input of %d x %d: hardly a person",
            scale, *low, height, width,
        )  # fmt: skip
