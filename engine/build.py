"""The only reader of the configuration tree: from keys to plain arguments of everything below."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from torch import nn
from yacs.config import CfgNode

from datasets.datamodule import LoaderSettings
from datasets.file_check import check_files
from datasets.readers import read_dataset
from datasets.sample import ReidSplits
from datasets.splits import check_test, check_train
from datasets.transforms import Augmentation, NetworkInput
from engine.folders import RunFolder, new_run
from evaluation.outputs import Evidence, PictureSettings
from evaluation.protocols import Expansion, Protocol, verify
from evaluation.report import Verification
from evaluation.rerank import Reciprocal
from losses.center import CenterLoss
from losses.centroid_triplet import CentroidTripletLoss
from losses.identity import IdentityLoss
from losses.objectives import Term
from losses.octuplet import OctupletLoss
from losses.triplet import BatchHardTripletLoss
from modelling.backbones.resnet import ResNetBackbone, imagenet_weights
from modelling.extractor import FeatureExtractor
from modelling.optimization import Optimization
from modelling.reid_module import DRAWN
from modelling.schedules import Schedule, cosine, multistep, with_warmup
from utils.errors import ReidError

logger = logging.getLogger(__name__)


def check_consistency(cfg: CfgNode) -> None:
    """Refuse keys that are fine alone and wrong together.

    Raises:
        ReidError: naming both keys.
    """
    batch, instances = cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE
    if batch % instances or batch < 2 * instances:
        raise ReidError(
            "SOLVER.IMS_PER_BATCH counts images: it must be DATALOADER.NUM_INSTANCE times 2, 3, ..., "
            f"got {batch} and {instances}; the nearest is {max(2, round(batch / instances)) * instances}"
        )
    if cfg.DATASETS.ON_BAD_FILE == "skip" and not cfg.DATASETS.CHECK_FILES:
        raise ReidError("DATASETS.ON_BAD_FILE skip works at the check: set DATASETS.CHECK_FILES True too")
    if cfg.TRAINER.ACCELERATOR == "cuda" and not torch.cuda.is_available():
        raise ReidError("TRAINER.ACCELERATOR cuda needs a CUDA device, but torch sees none; set it to auto")


def build_splits(cfg: CfgNode, *, with_train: bool) -> ReidSplits:
    """Read the data set and check it before anything runs.

    Raises:
        ReidError: for a missing folder, a bad file, or splits that cannot work.
    """
    splits = read_dataset(cfg.DATASETS.NAMES, Path(cfg.DATASETS.ROOT_DIR), with_train=with_train)
    if cfg.DATASETS.CHECK_FILES:
        splits = check_files(splits, cfg.DATASETS.ON_BAD_FILE, workers=max(1, cfg.DATALOADER.NUM_WORKERS))
    warnings = check_train(splits, cfg.DATALOADER.NUM_INSTANCE) if with_train else []
    for warning in (*warnings, *check_test(splits, camera_rule=cfg.TEST.CAMERA_RULE)):
        logger.warning("%s", warning)
    return splits


def loader_settings(cfg: CfgNode) -> LoaderSettings:
    """How images become batches."""
    return LoaderSettings(
        train_size=tuple(cfg.INPUT.SIZE_TRAIN),
        test_size=tuple(cfg.INPUT.SIZE_TEST),
        augmentation=Augmentation(cfg.INPUT.PROB, cfg.INPUT.PADDING, cfg.INPUT.RE_PROB),
        batch=cfg.SOLVER.IMS_PER_BATCH,
        instances=cfg.DATALOADER.NUM_INSTANCE,
        resample=cfg.DATALOADER.USE_RESAMPLING,
        test_batch=cfg.TEST.IMS_PER_BATCH,
        workers=cfg.DATALOADER.NUM_WORKERS,
        seed=cfg.REPRODUCIBLE_SEED,
        scales=tuple(trained_scales(cfg)),
    )


def build_extractor(cfg: CfgNode) -> FeatureExtractor:
    """The network with random weights."""
    return FeatureExtractor(
        ResNetBackbone(cfg.MODEL.NAME, last_stride=cfg.MODEL.LAST_STRIDE, stem_relu=cfg.MODEL.STEM_RELU)
    )


def initial_weights(cfg: CfgNode) -> dict[str, torch.Tensor] | None:
    """ImageNet weights for the backbone, or None where MODEL.PRETRAINED is False."""
    return imagenet_weights(cfg.MODEL.NAME) if cfg.MODEL.PRETRAINED else None


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


def build_protocols(cfg: CfgNode, pairs: Sequence[tuple[int, int]]) -> tuple[Protocol, ...]:
    """What validation and test measure.

    Args:
        cfg: the configuration.
        pairs: low-resolution scales of query and gallery. At each of them every protocol runs, and
            instance retrieval once more with what improves it.
    """
    rule, test = cfg.TEST.CAMERA_RULE, cfg.TEST
    names = list(test.PROTOCOLS)
    if cfg.MODEL.USE_CENTROIDS and "centroid" not in names:
        names.append("centroid")
    own_rule = rule and cfg.MODEL.KEEP_CAMID_CENTROIDS
    if "centroid" in names and own_rule != rule:
        logger.warning(
            "MODEL.KEEP_CAMID_CENTROIDS False: a query's own centroid holds images of its own camera too, "
            "which are nearly the query itself; do not set these centroid figures beside others"
        )
    rerank = Reciprocal(test.RERANK_K1, test.RERANK_K2, test.RERANK_LAMBDA) if test.RERANK else None
    expansion = Expansion(test.QUERY_EXPANSION, test.QUERY_EXPANSION_ALPHA) if test.QUERY_EXPANSION else None
    protocols = []
    for pair in pairs:
        protocols += [Protocol(name, *pair, own_rule if name == "centroid" else rule) for name in names]
        if rerank or expansion:
            protocols.append(Protocol("instance", *pair, rule, rerank, expansion))
    return tuple(protocols)


def test_pairs(cfg: CfgNode) -> list[tuple[int, int]]:
    """Low-resolution scales of query and gallery in a test."""
    scales = cfg.TEST.SCALES or [cfg.INPUT.SCALE]
    match cfg.TEST.SCALE_PAIRS:
        case "query":
            return [(scale, 1) for scale in scales]
        case "gallery":
            return [(1, scale) for scale in scales]
        case "all":
            return [(query, gallery) for query in scales for gallery in scales]
    return [(scale, scale) for scale in scales]


def validation_pairs(cfg: CfgNode, views: Mapping[str, int]) -> list[tuple[int, int]]:
    """Low-resolution scales in validation: those that are trained.

    With twin images, low queries against the full gallery come first: the practical case chooses the best.
    """
    scales = trained_scales(cfg)
    if len(views) == 1:
        return [(scale, scale) for scale in scales]
    low = [pair for scale in scales for pair in ((scale, 1), (scale, scale))]
    return [*low, (1, 1)]


def build_verification(cfg: CfgNode, evidence: Evidence) -> Verification:
    """Which distance means the same person, at the resolutions of the first protocol."""
    protocol, fpr = evidence.protocol, cfg.TEST.FPR
    result = verify(evidence.vectors, evidence.query, evidence.gallery, protocol, fpr)
    return Verification(protocol.query_scale, protocol.gallery_scale, fpr, result)


def build_pictures(cfg: CfgNode) -> PictureSettings | None:
    """Which ranked lists are drawn; None = none."""
    if not cfg.TEST.VISUALIZE:
        return None
    return PictureSettings(cfg.TEST.VISUALIZE_TOPK, cfg.TEST.VISUALIZE_MAX_NUMBER)


def output_folder(cfg: CfgNode) -> Path:
    """Where the results of a test go."""
    return Path(cfg.OUTPUT_DIR)


def single_view(cfg: CfgNode) -> Mapping[str, int]:
    """One view of a batch, at the scale that is trained."""
    return {"": DRAWN if cfg.INPUT.LR_SCALES else cfg.INPUT.SCALE}


def twin_views(cfg: CfgNode) -> Mapping[str, int]:
    """Two views of a batch: the images, and their low-resolution twins.

    Raises:
        ReidError: if no scale makes them differ.
    """
    if trained_scales(cfg) == [1]:
        raise ReidError("octuplet fine-tuning needs low-resolution twins: set --scale 2 or more, got 1")
    return {"": 1, "_low": DRAWN if cfg.INPUT.LR_SCALES else cfg.INPUT.SCALE}


def metric_terms(cfg: CfgNode, num_ids: int, dim: int) -> list[Term]:
    """The terms of the baseline and CTL that have a weight.

    Cross entropy after the BNNeck, triplet, center (Luo et al. 2019) and centroid triplet (Wieczorek et al.
    2021) before it.
    """
    solver = cfg.SOLVER
    identity = partial(IdentityLoss, num_ids, dim, solver.LABEL_SMOOTHING)
    triplet = partial(BatchHardTripletLoss, solver.MARGIN, solver.DISTANCE_FUNC)
    centroids = partial(CentroidTripletLoss, solver.MARGIN, solver.DISTANCE_FUNC)
    named: list[tuple[str, Callable[[], nn.Module], float, str]] = [
        ("identity", identity, solver.QUERY_XENT_WEIGHT, "bn"),
        ("triplet", triplet, solver.QUERY_CONTRASTIVE_WEIGHT, "raw"),
        ("center", partial(CenterLoss, num_ids, dim), solver.CENTER_LOSS_WEIGHT, "raw"),
        ("centroid_triplet", centroids, solver.CENTROID_CONTRASTIVE_WEIGHT, "raw"),
    ]
    return [Term(name, make(), weight, (feature,)) for name, make, weight, feature in named if weight]


def octuplet_terms(cfg: CfgNode, num_ids: int, dim: int) -> list[Term]:
    """The octuplet loss between the images and their twins (Knoche et al. 2023), and what has a weight."""
    solver = cfg.SOLVER
    loss = OctupletLoss(solver.OCTUPLET_MARGIN, solver.OCTUPLET_DISTANCE, tuple(solver.OCTUPLET_TERMS))
    term = Term("octuplet", loss, solver.OCTUPLET_WEIGHT, ("raw", "raw_low"))
    return [term, *metric_terms(cfg, num_ids, dim)]


def build_optimization(cfg: CfgNode) -> Optimization:
    """Optimizer, schedule and clipping."""
    solver = cfg.SOLVER
    return Optimization(
        solver.OPTIMIZER_NAME,
        solver.BASE_LR,
        solver.WEIGHT_DECAY,
        solver.MOMENTUM,
        build_schedule(cfg),
        solver.CENTER_LR,
        solver.GRADIENT_CLIP_VAL,
    )


def build_schedule(cfg: CfgNode) -> Schedule:
    """Factor on the learning rate by progress in epochs."""
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME == "cosine_annealing":
        after = cosine(solver.WARMUP_EPOCHS, solver.MAX_EPOCHS, solver.MIN_LR / solver.BASE_LR)
    else:
        after = multistep(solver.LR_STEPS, solver.GAMMA)
    return with_warmup(after, solver.WARMUP_EPOCHS, solver.WARMUP_FACTOR)


def build_run_folder(cfg: CfgNode, dataset: str, method: str) -> RunFolder:
    """A new folder for a run."""
    return new_run(Path(cfg.LOGS_DIR), Path(cfg.RUNS_DIR), Path(dataset, cfg.MODEL.NAME, method))


def build_trainer(
    cfg: CfgNode, folder: RunFolder | None = None, callbacks: list[Callback] | None = None
) -> Trainer:
    """Lightning's trainer; without a folder it keeps nothing, as a test wants it."""
    options: dict[str, Any] = {"logger": False}
    if folder is not None:
        board = folder.tensorboard
        options["logger"] = TensorBoardLogger(board.parent.parent, name=board.parent.name, version=board.name)
    return Trainer(
        accelerator=cfg.TRAINER.ACCELERATOR,
        devices=cfg.TRAINER.DEVICES,
        strategy="ddp" if cfg.TRAINER.DEVICES > 1 else "auto",
        precision=cfg.TRAINER.PRECISION,
        max_epochs=cfg.SOLVER.MAX_EPOCHS,
        check_val_every_n_epoch=cfg.SOLVER.EVAL_PERIOD,
        log_every_n_steps=cfg.SOLVER.LOG_PERIOD,
        deterministic="warn" if cfg.REPRODUCIBLE else None,
        callbacks=[TQDMProgressBar(refresh_rate=cfg.SOLVER.LOG_PERIOD), *(callbacks or [])],
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # our samplers share an epoch out themselves
        enable_checkpointing=False,  # engine.recorder writes them under the names we promise
        enable_model_summary=False,
        **options,
    )
