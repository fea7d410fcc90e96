"""Verification: are two images the same person? Rates over all query-gallery pairs, and a threshold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evaluation.retrieval.distances import DistanceBlocks
from evaluation.retrieval.inputs import Retrieval
from utils.errors import ReidError

FALSE_POSITIVE_RATES: tuple[float, ...] = (1e-2, 1e-3, 1e-4)

_LARGEST_DISTANCE = 2.0
_CURVE_POINTS = 500
_PAIR_BYTES = 13  # beside its value a pair needs its bin (int32), the camera mask, and the wider bin of bincount


@dataclass(frozen=True, eq=False)
class VerificationCurve:
    """Rates of the decision "same person where the cosine distance is below a threshold".

    Attributes:
        tpr_at_fpr: true positive rate at the largest threshold whose false positive rate is at most the key.
        thresholds: that threshold, a cosine distance in [0, 2].
        equal_error_rate: where false positive and false negative rate meet.
        num_positive: pairs of one person.
        num_negative: pairs of two persons, including distractors. A rate below 1 / ``num_negative`` cannot be
            measured: no false pair is below its threshold.
        fpr: (P,) float64 ascending, at most 1,001 points of the ROC curve, dense at low rates.
        tpr: (P,) float64, the true positive rate at each of them.
    """

    tpr_at_fpr: dict[float, float]
    thresholds: dict[float, float]
    equal_error_rate: float
    num_positive: int
    num_negative: int
    fpr: np.ndarray
    tpr: np.ndarray


def verification_curve(
    retrieval: Retrieval,
    *,
    camera_rule: bool = True,
    false_positive_rates: Sequence[float] = FALSE_POSITIVE_RATES,
    bins: int = 2**16,
) -> VerificationCurve:
    """Verification rates over all query-gallery pairs from two cameras, by one streamed histogram.

    Rates are exact at the edges of the bins; a threshold is off by at most one bin width (2 / ``bins``). Memory is
    bounded as in :func:`evaluation.ranking.evaluate_ranking`.

    Args:
        retrieval: query and gallery; a distractor makes negative pairs only.
        camera_rule: count only pairs from two cameras; all pairs without it.
        false_positive_rates: rates to report, each in (0, 1).
        bins: bins of the histogram over the cosine distances [0, 2].

    Raises:
        ReidError: for a rate or number of bins out of range, or without a pair of one person, or of two, from
            two cameras.
    """
    _check_options(false_positive_rates, bins)
    positive, negative = _histograms(retrieval, camera_rule, bins)
    _check_pairs(int(positive.sum()), int(negative.sum()), camera_rule)
    edges = np.linspace(0.0, _LARGEST_DISTANCE, bins + 1)
    tpr, fpr = _cumulative_share(positive), _cumulative_share(negative)
    at = {rate: int(np.searchsorted(fpr, rate, side="right")) - 1 for rate in false_positive_rates}
    rates = np.concatenate([np.logspace(-7, 0, _CURVE_POINTS), np.linspace(0, 1, _CURVE_POINTS)])
    points = np.unique(np.append(np.searchsorted(fpr, rates, side="right") - 1, 0))
    return VerificationCurve(
        tpr_at_fpr={rate: float(tpr[edge]) for rate, edge in at.items()},
        thresholds={rate: float(edges[edge]) for rate, edge in at.items()},
        equal_error_rate=_equal_error_rate(fpr, 1.0 - tpr),
        num_positive=int(positive.sum()),
        num_negative=int(negative.sum()),
        fpr=fpr[points],
        tpr=tpr[points],
    )


def _histograms(retrieval: Retrieval, camera_rule: bool, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts (bins,) int64 of the positive and of the negative pairs."""
    pairs = retrieval.pairs(camera_rule)
    positive = torch.zeros(bins + 1, dtype=torch.int64, device=retrieval.gallery.device)
    both = torch.zeros_like(positive)
    extra_bytes = pairs.scoring_bytes + _PAIR_BYTES * len(retrieval.gallery)
    for rows, negated_cosines in DistanceBlocks(retrieval).blocks(extra_bytes):
        index = _bin_index(negated_cosines, bins)
        positions, _, is_match = pairs(rows)
        positive += _count(index.gather(1, positions).masked_fill_(~is_match, bins), bins)
        if camera_rule:
            index.masked_fill_(retrieval.query_cameras[rows, None] == retrieval.gallery_cameras, bins)
        both += _count(index, bins)
    return positive[:bins].cpu().numpy(), (both - positive)[:bins].cpu().numpy()


def _bin_index(negated_cosines: Tensor, bins: int) -> Tensor:
    index = negated_cosines.add_(1.0).mul_(bins / _LARGEST_DISTANCE).to(torch.int32)
    return index.clamp_(0, bins - 1)


def _count(index: Tensor, bins: int) -> Tensor:
    """Pairs in each bin; the last bin holds those that do not count."""
    return torch.bincount(index.flatten(), minlength=bins + 1)


def _cumulative_share(counts: np.ndarray) -> np.ndarray:
    """(bins + 1,) share of the pairs that are nearer than each edge."""
    share: np.ndarray = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
    return share


def _equal_error_rate(fpr: np.ndarray, fnr: np.ndarray) -> float:
    gap = fpr - fnr
    after = int(np.argmax(gap >= 0))
    before = after - 1
    part = -gap[before] / (gap[after] - gap[before])
    return float(fpr[before] + part * (fpr[after] - fpr[before]))


def _check_options(rates: Sequence[float], bins: int) -> None:
    for rate in rates:
        if not 0 < rate < 1:
            raise ReidError(f"false_positive_rates must be in (0, 1), got {rate}; 0.001 is usual")
    if not 2 <= bins <= 2**24:
        raise ReidError(f"bins must be in [2, 2**24], got {bins}; 2**16 resolves a distance of 0.00003")


def _check_pairs(num_positive: int, num_negative: int, camera_rule: bool) -> None:
    remedy = "pass camera_rule=False where one camera took everything" if camera_rule else "check the labels"
    for kind, number in (("of one person", num_positive), ("of two persons", num_negative)):
        if number == 0:
            raise ReidError(
                f"query and gallery must form pairs {kind} (camera_rule={camera_rule}), got none; {remedy}"
            )
