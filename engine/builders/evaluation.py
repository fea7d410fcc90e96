"""From keys to the protocols of validation and test."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from yacs.config import CfgNode

from datasets.batch import Views
from datasets.low_resolution import usual_size
from engine.builders.data import trained_scales
from evaluation.protocols import PROTOCOLS
from evaluation.query_expansion import QueryExpansion
from evaluation.report.write import PictureSettings
from evaluation.rerank import Reciprocal
from evaluation.results import EvaluationProtocol, Resolution
from utils.errors import ReidError, lookup
from utils.resolution import low_resolution_size

logger = logging.getLogger(__name__)

CAMERA_RULES: dict[str, Callable[[CfgNode], bool]] = {"centroid": lambda cfg: cfg.MODEL.KEEP_CAMID_CENTROIDS}
"""Protocol -> whether the camera rule of the run holds for it; it does for protocols without a row."""


def embedding_precision(cfg: CfgNode) -> str:
    """The precision of the backbone in validation and test: fp32 unless the user has set a mixed one.

    So a figure does not depend on what TRAINER.PRECISION auto takes on a machine.

    Args:
        cfg: the user's settings, before ``auto`` is replaced by its choice.
    """
    return {"bf16-mixed": "bf16", "16-mixed": "fp16"}.get(cfg.TRAINER.PRECISION, "fp32")


def protocol_names(cfg: CfgNode) -> list[str]:
    """The protocols of validation and test in the order of their table; the first one chooses best.pth.

    Raises:
        ReidError: for an unknown one.
    """
    names = [*cfg.TEST.PROTOCOLS, *(["centroid"] if cfg.MODEL.USE_CENTROIDS else [])]
    for name in names:
        lookup(PROTOCOLS, name, "TEST.PROTOCOLS")
    return [name for name in PROTOCOLS if name in names]


def build_protocols(
    cfg: CfgNode, names: Sequence[str], pairs: Sequence[tuple[int, int]], *, camera_rule: bool
) -> tuple[EvaluationProtocol, ...]:
    """The protocols of validation and test, one per row of the report.

    Args:
        cfg: the configuration.
        names: of the protocols.
        pairs: low-resolution scales of query and gallery. At each pair every protocol runs, and instance retrieval
            runs once more with each of its additions, and with both.
        camera_rule: ignore gallery images of the query's own identity and camera.
    """
    test = cfg.TEST
    rules = {name: camera_rule and (name not in CAMERA_RULES or CAMERA_RULES[name](cfg)) for name in names}
    if rules.get("centroid", camera_rule) != camera_rule:
        logger.warning(
            "MODEL.KEEP_CAMID_CENTROIDS False: a query's own centroid holds images of its own camera too, "
            "which are nearly the query itself; do not set these centroid figures beside others"
        )
    rerank = Reciprocal(test.RERANK_K1, test.RERANK_K2, test.RERANK_LAMBDA) if test.RERANK else None
    expansion = QueryExpansion(test.QUERY_EXPANSION, test.QUERY_EXPANSION_ALPHA) if test.QUERY_EXPANSION else None
    protocols = []
    for pair in pairs:
        protocols += [EvaluationProtocol(name, *pair, rules[name], flip=test.FLIP) for name in names]
        additions = [(None, expansion), (rerank, None), (rerank, expansion)]
        protocols += [
            EvaluationProtocol("instance", *pair, camera_rule, *addition, flip=test.FLIP)
            for addition in dict.fromkeys(additions)
            if any(addition)
        ]
    return tuple(protocols)


def scales_of(protocols: Iterable[EvaluationProtocol]) -> list[int]:
    """The resolutions at which an evaluation embeds its images."""
    return sorted({scale for protocol in protocols for scale in protocol.scales})


def resolutions(
    files: Mapping[int, Sequence[Path]], scales: Iterable[int], size: Sequence[int]
) -> tuple[Resolution, ...]:
    """The pixels that each scale leaves of an image.

    Args:
        files: scale -> its low-resolution files; other scales are made from the network's input.
        scales: in use.
        size: height and width of the network's input, pixels.
    """
    return tuple(
        Resolution(scale, *usual_size(files[scale]), "disk")
        if scale in files
        else Resolution(scale, *low_resolution_size(size[0], size[1], scale), "online")
        for scale in sorted(set(scales))
    )


def evaluation_pairs(cfg: CfgNode) -> list[tuple[int, int]]:
    """Low-resolution scales of query and gallery in a test.

    Raises:
        ReidError: if two keys set them.
    """
    scales = list(dict.fromkeys(cfg.TEST.SCALES)) or [cfg.INPUT.SCALE]
    if cfg.TEST.SCALES and cfg.INPUT.SCALE != 1:
        raise ReidError(
            f"a test takes --scale or TEST.SCALES, got {cfg.INPUT.SCALE} and {cfg.TEST.SCALES}; leave one out"
        )
    match cfg.TEST.SCALE_PAIRS:
        case "query":
            return [(scale, 1) for scale in scales]
        case "gallery":
            return [(1, scale) for scale in scales]
        case "all":
            return [(query, gallery) for query in scales for gallery in scales]
    return [(scale, scale) for scale in scales]


def validation_pairs(cfg: CfgNode, views: Views) -> list[tuple[int, int]]:
    """Low-resolution scales of query and gallery in validation: those of training.

    If batches have both resolutions, low queries against the full gallery come first: this practical case chooses
    best.pth.
    """
    scales = trained_scales(cfg)
    if len(views) == 1:
        return [(scale, scale) for scale in scales]
    low = [pair for scale in scales if scale > 1 for pair in ((scale, 1), (scale, scale))]
    return [*low, (1, 1)]


def baseline_protocol(first: EvaluationProtocol, *, camera_rule: bool) -> EvaluationProtocol:
    """Instance retrieval at the resolutions of ``first``, for verification and ranked lists."""
    return EvaluationProtocol("instance", first.query_scale, first.gallery_scale, camera_rule, flip=first.flip)


def picture_settings(cfg: CfgNode) -> PictureSettings | None:
    """Which ranked lists to draw; None = none."""
    if not cfg.TEST.VISUALIZE:
        return None
    return PictureSettings(cfg.TEST.VISUALIZE_TOPK, cfg.TEST.VISUALIZE_MAX_NUMBER)
