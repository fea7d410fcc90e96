"""The largest distance of a match: a number, or the threshold that a test of the weights has measured."""

import argparse
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.settings import Settings
from evaluation.thresholds import Thresholds
from utils.command_line import number
from utils.errors import ReidError

logger = logging.getLogger(__name__)

AUTO = "auto"


def distance_option(text: str) -> float | str:
    """The ``type`` of --max_distance: :data:`AUTO`, or a number of 0 or more."""
    if text == AUTO:
        return AUTO
    try:
        value: float = number(float, 0)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(str(error).replace("must be", f"must be {AUTO}, or", 1)) from error
    return value


@dataclass(frozen=True)
class Sides:
    """What is compared in a search.

    Attributes:
        scales: low-resolution scales of queries and gallery.
        centroids: the gallery has means of identities instead of images.
    """

    scales: tuple[int, int]
    centroids: bool = False


def max_distance(
    wish: float | str | None, settings: Settings, checkpoint: str, report: Mapping[str, Any], sides: Sides
) -> float | None:
    """The largest cosine distance of a match; None = any.

    Args:
        wish: of the user, see :func:`distance_option`.
        settings: of the user, whose TEST.FPR chooses among the thresholds of the test.
        checkpoint: name of the weights, for the message.
        report: of a test of them, see :func:`engine.reports.report_of`.
        sides: of the search; a warning says where the test compared others.

    Raises:
        ReidError: if it is :data:`AUTO` and the test has not measured it.
    """
    if wish is None or isinstance(wish, (int, float)):
        return wish
    thresholds = Thresholds.of_report(report)
    if thresholds is None:
        raise ReidError(
            f"--max_distance {AUTO} needs the threshold that test.py measures, but none came with {checkpoint}; test "
            "it with OUTPUT_DIR set to its own folder, or give a number"
        )
    if thresholds.flip:
        raise ReidError(
            f"--max_distance {AUTO} needs a threshold of plain vectors, but that of {checkpoint} was measured with "
            "TEST.FLIP True; test it without, or give a number"
        )
    fpr = settings.cfg.TEST.FPR if settings.is_explicit("TEST.FPR") else thresholds.fpr
    limit = thresholds.at(fpr)
    message = "same person: cosine distance up to %.4f, at which %g %% of the pairs of different people in %s match"
    logger.info(message, limit, 100 * fpr, thresholds.dataset)
    if sides.scales != thresholds.scales:
        message = "that was measured at resolution x%d -> x%d, and this search is at x%d -> x%d"
        logger.warning(message, *thresholds.scales, *sides.scales)
    if "searched_in" in report:
        message = "that was measured in float, and %s computes in %s, which moves distances: check it on your images"
        logger.warning(message, checkpoint, report["searched_in"])
    if sides.centroids:
        logger.warning("that was measured between images; the means of identities here are nearer to one another")
    return limit
