"""What is measured: protocols by name, over embeddings at one or more resolutions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol as Structural

from torch import Tensor

from evaluation.ranking import evaluate_ranking
from evaluation.report import Entry


class Labelled(Structural):
    """What an evaluation needs to know of an image."""

    @property
    def person_id(self) -> int:
        """The identity; 0 = distractor."""

    @property
    def camera_id(self) -> int:
        """The camera."""


@dataclass(frozen=True)
class Protocol:
    """One row of the report.

    Attributes:
        name: ``instance``.
        query_scale: low-resolution scale of the queries.
        gallery_scale: low-resolution scale of the gallery.
        camera_rule: ignore gallery images of the query's own identity and camera.
    """

    name: str = "instance"
    query_scale: int = 1
    gallery_scale: int = 1
    camera_rule: bool = True

    @property
    def scales(self) -> tuple[int, int]:
        """The resolutions at which the images must be embedded."""
        return self.query_scale, self.gallery_scale


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
    count = len(query)
    for protocol in protocols:
        result = evaluate_ranking(
            vectors[protocol.query_scale][:count],
            vectors[protocol.gallery_scale][count:],
            [sample.person_id for sample in query],
            [sample.person_id for sample in gallery],
            [sample.camera_id for sample in query],
            [sample.camera_id for sample in gallery],
            camera_rule=protocol.camera_rule,
        )
        yield Entry(protocol.name, protocol.query_scale, protocol.gallery_scale, rerank=False, result=result)
