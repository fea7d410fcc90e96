"""What is measured: protocols by name, over embeddings at one or more resolutions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple
from typing import Protocol as Structural

from torch import Tensor

from evaluation.centroids import evaluate_centroids, evaluate_centroids_ctl2021
from evaluation.expansion import expand_queries
from evaluation.ranking import RankingResult, evaluate_ranking
from evaluation.report import Entry
from evaluation.rerank import Reciprocal
from evaluation.reranked import evaluate_reranked
from evaluation.verification import FALSE_POSITIVE_RATES, VerificationResult, verification_curve

ProtocolName = Literal["instance", "centroid", "centroid_ctl2021"]


class Labelled(Structural):
    """What an evaluation needs to know of an image."""

    @property
    def person_id(self) -> int:
        """The identity; 0 = distractor."""

    @property
    def camera_id(self) -> int:
        """The camera."""


class Expansion(NamedTuple):
    """Parameters of the query expansion.

    Attributes:
        k: gallery items that join a query.
        alpha: exponent of their weight.
    """

    k: int
    alpha: float


@dataclass(frozen=True)
class Protocol:
    """One row of the report.

    Attributes:
        name: ``instance``, ``centroid`` or ``centroid_ctl2021``.
        query_scale: low-resolution scale of the queries.
        gallery_scale: low-resolution scale of the gallery.
        camera_rule: ignore gallery images of the query's own identity and camera.
        rerank: re-rank by k-reciprocal neighbours (``instance`` only); None = no.
        expansion: expand the queries first (``instance`` only); None = no.
    """

    name: ProtocolName = "instance"
    query_scale: int = 1
    gallery_scale: int = 1
    camera_rule: bool = True
    rerank: Reciprocal | None = None
    expansion: Expansion | None = None

    @property
    def scales(self) -> tuple[int, int]:
        """The resolutions at which the images must be embedded."""
        return self.query_scale, self.gallery_scale


class Sides(NamedTuple):
    """Embeddings and labels of the two sides of an evaluation, in the order its functions take them."""

    query: Tensor
    gallery: Tensor
    query_ids: list[int]
    gallery_ids: list[int]
    query_cameras: list[int]
    gallery_cameras: list[int]


def sides(
    vectors: Mapping[int, Tensor], query: Sequence[Labelled], gallery: Sequence[Labelled], protocol: Protocol
) -> Sides:
    """The two sides at the protocol's resolutions.

    Args:
        vectors: scale -> (Q + G, D) embeddings, the queries first.
        query: labels of the queries.
        gallery: labels of the gallery.
        protocol: which resolutions.
    """
    return Sides(
        vectors[protocol.query_scale][: len(query)],
        vectors[protocol.gallery_scale][len(query) :],
        [sample.person_id for sample in query],
        [sample.person_id for sample in gallery],
        [sample.camera_id for sample in query],
        [sample.camera_id for sample in gallery],
    )


def evaluate(
    vectors: Mapping[int, Tensor],
    query: Sequence[Labelled],
    gallery: Sequence[Labelled],
    protocols: Sequence[Protocol],
) -> Iterator[Entry]:
    """Evaluate embeddings by each protocol.

    Args:
        vectors: scale -> (Q + G, D) embeddings, the queries first.
        query: labels of the queries.
        gallery: labels of the gallery.
        protocols: what to measure.

    Yields:
        One entry of the report per protocol.

    Raises:
        ReidError: if no query has a match.
    """
    for protocol in protocols:
        yield Entry(
            protocol.name,
            protocol.query_scale,
            protocol.gallery_scale,
            rerank=protocol.rerank is not None,
            result=_rank(sides(vectors, query, gallery, protocol), protocol),
            expansion=protocol.expansion.k if protocol.expansion else 0,
            camera_rule=protocol.camera_rule,
            parameters=_parameters(protocol),
        )


def verify(
    vectors: Mapping[int, Tensor],
    query: Sequence[Labelled],
    gallery: Sequence[Labelled],
    protocol: Protocol,
    fpr: float,
) -> VerificationResult:
    """Which distance means the same person, over all pairs of a query and a gallery image.

    Args:
        vectors: scale -> (Q + G, D) embeddings, the queries first.
        query: labels of the queries.
        gallery: labels of the gallery.
        protocol: which resolutions, and whether pairs of one camera count.
        fpr: a false positive rate for which a threshold is wanted, beside the usual ones.

    Raises:
        ReidError: if ``fpr`` is out of (0, 1), or no pair shows one person, or none two; then there is nothing to
            tell apart.
    """
    rates = tuple(sorted({*FALSE_POSITIVE_RATES, fpr}, reverse=True))
    given = sides(vectors, query, gallery, protocol)
    return verification_curve(*given, camera_rule=protocol.camera_rule, false_positive_rates=rates)


def _parameters(protocol: Protocol) -> dict[str, float]:
    reranking = protocol.rerank._asdict() if protocol.rerank else {}
    expansion = {"alpha": protocol.expansion.alpha} if protocol.expansion else {}
    return {**reranking, **expansion}


def _rank(given: Sides, protocol: Protocol) -> RankingResult:
    if protocol.name == "centroid":
        return evaluate_centroids(*given, camera_rule=protocol.camera_rule)
    if protocol.name == "centroid_ctl2021":
        return evaluate_centroids_ctl2021(*given)
    if protocol.expansion is not None:
        expanded = expand_queries(given.query, given.gallery, k=protocol.expansion.k, alpha=protocol.expansion.alpha)
        given = given._replace(query=expanded)
    if protocol.rerank is not None:
        return evaluate_reranked(*given, parameters=protocol.rerank, camera_rule=protocol.camera_rule)
    return evaluate_ranking(*given, camera_rule=protocol.camera_rule)
