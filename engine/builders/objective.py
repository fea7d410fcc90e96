"""From keys to the views of a batch and the terms of an objective."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from torch import nn
from yacs.config import CfgNode

from datasets.batch import Batch, Views
from engine.builders.data import trained_scales
from losses.center import CenterLoss
from losses.centroid_triplet import CentroidTripletLoss
from losses.identity import IdentityLoss
from losses.margins import CosineIdentityLoss
from losses.mining import MiningLoss
from losses.objectives import Objective, Term
from losses.octuplet import OctupletLoss
from losses.parts import Part, PartLoss
from losses.similarity import MultiSimilarityLoss, PairwiseCircleLoss
from losses.triplet import BatchHardTripletLoss
from losses.weighted_triplet import WeightedTripletLoss
from modelling.heads import Head
from utils.errors import ReidError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TermBuilder:
    """How to make a term of an objective from the configuration.

    Attributes:
        loss: the configuration, number of identities and embedding size -> the loss.
        weight: key of its weight; a weight of 0 switches the term off.
        feature: ``raw``, ``bn``, or the key that chooses between them.
        views: names of the views that the loss compares.
        parts: which parts of an embedding have a loss of their own, ``identity_parts`` or ``metric_parts`` of the
            head; empty = the whole has one.
    """

    loss: Callable[[CfgNode, int, int], nn.Module]
    weight: str
    feature: str
    views: tuple[str, ...] = ("main",)
    parts: str = ""

    def weight_in(self, cfg: CfgNode) -> float:
        """The weight of the term."""
        return float(attrgetter(self.weight)(cfg))

    def build(self, name: str, cfg: CfgNode, num_ids: int, head: Head) -> Term:
        """The term under a name."""
        feature = attrgetter(self.feature)(cfg) if "." in self.feature else self.feature
        parts: tuple[Part, ...] = getattr(head, self.parts) if self.parts else ()
        if len(parts) > 1:
            loss: nn.Module = PartLoss(lambda dim: self.loss(cfg, num_ids, dim), parts)
        else:
            loss = self.loss(cfg, num_ids, head.dim)
        return Term(name, loss, self.weight_in(cfg), feature, self.views)


def _margin(solver: CfgNode) -> float | None:
    return None if solver.SOFT_MARGIN else solver.MARGIN


def _identity(cfg: CfgNode, num_ids: int, dim: int) -> IdentityLoss:
    solver = cfg.SOLVER
    if solver.CLASSIFIER == "linear":
        return IdentityLoss(num_ids, dim, solver.LABEL_SMOOTHING)
    size, scale = solver.CLASSIFIER_MARGIN, solver.CLASSIFIER_SCALE
    return CosineIdentityLoss(num_ids, dim, solver.LABEL_SMOOTHING, solver.CLASSIFIER, size, scale)


def _mining(loss: type[MiningLoss]) -> Callable[[CfgNode, int, int], nn.Module]:
    return lambda cfg, *_: loss(_margin(cfg.SOLVER), cfg.SOLVER.DISTANCE_FUNC)


def _octuplet(cfg: CfgNode, *_: int) -> OctupletLoss:
    solver = cfg.SOLVER
    if (feature := solver.OCTUPLET_FEATURE) != (compared := cfg.MODEL.RETRIEVAL_FEATURE):
        message = "the octuplet loss trains the feature %s, but retrieval compares %s: set MODEL.RETRIEVAL_FEATURE %s"
        logger.warning(message, feature, compared, feature)
    margin = None if solver.SOFT_MARGIN else solver.OCTUPLET_MARGIN
    return OctupletLoss(margin, solver.OCTUPLET_DISTANCE, solver.OCTUPLET_TERMS)


def _metric(loss: Callable[[CfgNode, int, int], nn.Module], weight: str) -> TermBuilder:
    return TermBuilder(loss, f"SOLVER.{weight}", "SOLVER.METRIC_FEATURE", parts="metric_parts")


# The choices of SOLVER.TERMS. A new loss is its file, a row here and the key of its weight.
TERMS: dict[str, TermBuilder] = {
    "identity": TermBuilder(_identity, "SOLVER.QUERY_XENT_WEIGHT", "bn", parts="identity_parts"),
    "triplet": _metric(_mining(BatchHardTripletLoss), "QUERY_CONTRASTIVE_WEIGHT"),
    "weighted_triplet": _metric(_mining(WeightedTripletLoss), "WEIGHTED_TRIPLET_WEIGHT"),
    "circle": _metric(lambda *_: PairwiseCircleLoss(), "CIRCLE_WEIGHT"),
    "multi_similarity": _metric(lambda *_: MultiSimilarityLoss(), "MULTI_SIMILARITY_WEIGHT"),
    "center": TermBuilder(
        lambda cfg, num_ids, dim: CenterLoss(num_ids, dim, cfg.SOLVER.CENTER_LR), "SOLVER.CENTER_LOSS_WEIGHT", "raw"
    ),
    "centroid_triplet": _metric(_mining(CentroidTripletLoss), "CENTROID_CONTRASTIVE_WEIGHT"),
    "octuplet": TermBuilder(_octuplet, "SOLVER.OCTUPLET_WEIGHT", "SOLVER.OCTUPLET_FEATURE", ("main", "low")),
}


def build_objective(cfg: CfgNode, num_ids: int, head: Head) -> Objective:
    """The weighted sum of the terms in SOLVER.TERMS.

    Args:
        cfg: the effective configuration, from :func:`engine.settings.Settings.for_training`.
        num_ids: identities of the training set.
        head: of the network.
    """
    return Objective([TERMS[name].build(name, cfg, num_ids, head) for name in cfg.SOLVER.TERMS])


def build_views(cfg: CfgNode, method: str, *, low_resolution: bool) -> Views:
    """The views of a batch: the images at the scales of training, and in full resolution if the method has both.

    Raises:
        ReidError: if the two views would be the same.
    """
    if not low_resolution:
        return {"main": Batch.low_resolution}
    if trained_scales(cfg) == [1]:
        raise ReidError(f"method {method} needs low-resolution views: set --scale 2 or more, got 1")
    return {"main": Batch.full_resolution, "low": Batch.low_resolution}
