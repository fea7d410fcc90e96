"""From keys to the views of a batch and the terms of an objective."""

from collections.abc import Callable
from functools import partial

from torch import nn
from yacs.config import CfgNode

from datasets.sample import Batch, Views
from engine.build.data import trained_scales
from losses.center import CenterLoss
from losses.centroid_triplet import CentroidTripletLoss
from losses.identity import IdentityLoss
from losses.objectives import Term
from losses.octuplet import OctupletLoss
from losses.triplet import BatchHardTripletLoss
from utils.errors import ReidError


def single_view(cfg: CfgNode) -> Views:  # noqa: ARG001 (as low_resolution_views)
    """One view of a batch, at the scales that are trained."""
    return {"": Batch.low_resolution}


def low_resolution_views(cfg: CfgNode) -> Views:
    """Two views of a batch: the images in full and in low resolution.

    Raises:
        ReidError: if no scale makes them differ.
    """
    if trained_scales(cfg) == [1]:
        raise ReidError("octuplet fine-tuning needs low-resolution twins: set --scale 2 or more, got 1")
    return {"": Batch.full_resolution, "_low": Batch.low_resolution}


def metric_terms(cfg: CfgNode, num_ids: int, dim: int) -> list[Term]:
    """The terms of the baseline and CTL that have a weight.

    Cross entropy after the BNNeck, triplet, center (Luo et al. 2019) and centroid triplet (Wieczorek et al.
    2021) before it.

    Raises:
        ReidError: if none has a weight.
    """
    terms = _weighted_terms(cfg, num_ids, dim)
    if not terms:
        raise ReidError(
            "one of SOLVER.QUERY_XENT_WEIGHT, SOLVER.QUERY_CONTRASTIVE_WEIGHT, SOLVER.CENTER_LOSS_WEIGHT and "
            "SOLVER.CENTROID_CONTRASTIVE_WEIGHT must be above 0, got 0 for all; give one a weight, e.g. 1"
        )
    return terms


def octuplet_terms(cfg: CfgNode, num_ids: int, dim: int) -> list[Term]:
    """The octuplet loss between the images and their twins (Knoche et al. 2023), and what has a weight."""
    solver = cfg.SOLVER
    loss = OctupletLoss(solver.OCTUPLET_MARGIN, solver.OCTUPLET_DISTANCE, tuple(solver.OCTUPLET_TERMS))
    feature = solver.OCTUPLET_FEATURE
    term = Term("octuplet", loss, solver.OCTUPLET_WEIGHT, (feature, f"{feature}_low"))
    return [term, *_weighted_terms(cfg, num_ids, dim)]


def _weighted_terms(cfg: CfgNode, num_ids: int, dim: int) -> list[Term]:
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
