"""The protocols by name, and the evaluation of embeddings at one or more resolutions by them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from evaluation.centroids import rank_centroids
from evaluation.ctl2021 import rank_ctl2021
from evaluation.query_expansion import expand_queries
from evaluation.ranking import RankingResult, rank
from evaluation.rerank import k_reciprocal_blocks
from evaluation.results import Entry, EvaluationProtocol, VerificationEntry
from evaluation.retrieval.distances import DistanceBlocks
from evaluation.retrieval.inputs import LabeledImage, Retrieval
from evaluation.verification import FALSE_POSITIVE_RATES, verification_curve
from utils.errors import lookup


def instance(retrieval: Retrieval, protocol: EvaluationProtocol) -> RankingResult:
    """Rank images: see :mod:`evaluation.ranking`; with query expansion and re-ranking if the protocol has them."""
    pairs = retrieval.pairs(protocol.camera_rule)
    if protocol.expansion is not None:
        retrieval = expand_queries(retrieval, protocol.expansion)
    if protocol.rerank is not None:
        return rank(pairs, k_reciprocal_blocks(retrieval.query, retrieval.gallery, protocol.rerank))
    return rank(pairs, DistanceBlocks(retrieval).blocks(pairs.scoring_bytes))


def centroid(retrieval: Retrieval, protocol: EvaluationProtocol) -> RankingResult:
    """Rank one centroid per identity: see :mod:`evaluation.centroids`."""
    return rank_centroids(retrieval, camera_rule=protocol.camera_rule)


def centroid_ctl2021(retrieval: Retrieval, _: EvaluationProtocol) -> RankingResult:
    """Rank the centroids of the published procedure: see :mod:`evaluation.ctl2021`."""
    return rank_ctl2021(retrieval)


PROTOCOLS: dict[str, Callable[[Retrieval, EvaluationProtocol], RankingResult]] = {
    "instance": instance,
    "centroid": centroid,
    "centroid_ctl2021": centroid_ctl2021,
}
"""Ranking procedures in the order of a report's rows; the first row chooses the best checkpoint."""


@dataclass(frozen=True, eq=False)
class EvaluationData:
    """Embeddings and the images behind them.

    Attributes:
        vectors: scale -> (Q + G, D) embeddings, the queries first.
        query: Q images.
        gallery: G images.
    """

    vectors: Mapping[int, Tensor]
    query: Sequence[LabeledImage]
    gallery: Sequence[LabeledImage]
    _retrievals: dict[tuple[int, int], Retrieval] = field(default_factory=dict, init=False, repr=False)

    def retrieval(self, query_scale: int, gallery_scale: int) -> Retrieval:
        """Query and gallery at their resolutions, checked at the first call.

        Raises:
            ReidError: if embeddings and labels cannot be ranked.
        """
        scales = query_scale, gallery_scale
        if scales not in self._retrievals:
            self._retrievals[scales] = Retrieval.of(
                self.vectors[query_scale][: len(self.query)],
                self.vectors[gallery_scale][len(self.query) :],
                [image.person_id for image in self.query],
                [image.person_id for image in self.gallery],
                [image.camera_id for image in self.query],
                [image.camera_id for image in self.gallery],
            )
        return self._retrievals[scales]

    def evaluate(self, protocols: Sequence[EvaluationProtocol]) -> tuple[Entry, ...]:
        """One entry of the report per protocol: see :func:`evaluate`."""
        retrievals = [self.retrieval(*protocol.scales) for protocol in protocols]  # all checks precede the work
        return tuple(
            Entry(protocol, lookup(PROTOCOLS, protocol.name, "protocol")(retrieval, protocol))
            for protocol, retrieval in zip(protocols, retrievals, strict=True)
        )


def evaluate(
    vectors: Mapping[int, Tensor],
    query: Sequence[LabeledImage],
    gallery: Sequence[LabeledImage],
    protocols: Sequence[EvaluationProtocol],
) -> tuple[Entry, ...]:
    """Evaluate embeddings by each protocol.

    Args:
        vectors: scale -> (Q + G, D) embeddings, the queries first.
        query: labels of the queries.
        gallery: labels of the gallery.
        protocols: one per row of the report.

    Returns:
        One entry of the report per protocol.

    Raises:
        ReidError: if a protocol is unknown, if embeddings and labels cannot be ranked, or if no query has a match.
    """
    return EvaluationData(vectors, query, gallery).evaluate(protocols)


def verify(data: EvaluationData, protocol: EvaluationProtocol, fpr: float) -> VerificationEntry:
    """Find which distance means the same person, over all pairs of a query and a gallery image.

    Args:
        data: embeddings and labels.
        protocol: which resolutions, and whether pairs of one camera count.
        fpr: a false positive rate that gets a threshold, beside the usual ones.

    Raises:
        ReidError: if ``fpr`` is outside (0, 1), or if there are no pairs of one person or no pairs of two persons.
    """
    curve = verification_curve(
        data.retrieval(*protocol.scales),
        camera_rule=protocol.camera_rule,
        false_positive_rates=sorted({*FALSE_POSITIVE_RATES, fpr}, reverse=True),
    )
    return VerificationEntry(*protocol.scales, protocol.camera_rule, fpr, curve, protocol.flip)
