import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.retrieval.inputs import Retrieval
from evaluation.verification import VerificationCurve, verification_curve
from tests.support import memory_budget
from utils.errors import ReidError

RATES = (0.3, 0.1, 1e-2, 1e-3)
Arrays = tuple[np.ndarray, ...]


def draw(seed: int, num_query: int = 60, num_gallery: int = 200, signal: float = 0.6) -> Arrays:
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((21, 16))
    query_ids, gallery_ids = rng.integers(1, 21, num_query), rng.integers(0, 21, num_gallery)
    features = [
        (signal * centers[ids] + rng.standard_normal((len(ids), 16))).astype(np.float32)
        for ids in (query_ids, gallery_ids)
    ]
    cameras = [rng.integers(0, 4, num_query), rng.integers(0, 4, num_gallery)]
    return (*features, query_ids, gallery_ids, *cameras)


def verify(*arrays: object, **options: object) -> VerificationCurve:
    return verification_curve(Retrieval.of(*arrays), **options)


def plain_pairs(arrays: Arrays, camera_rule: bool) -> tuple[np.ndarray, np.ndarray]:
    """Sorted cosine distances of the positive and of the negative pairs, pair by pair in float64."""
    query, gallery, query_ids, gallery_ids, query_cameras, gallery_cameras = arrays
    positive, negative = [], []
    for i, row in enumerate(query.astype(np.float64)):
        for j, right in enumerate(gallery.astype(np.float64)):
            if camera_rule and query_cameras[i] == gallery_cameras[j]:
                continue
            distance = 1 - row @ right / np.linalg.norm(row) / np.linalg.norm(right)
            (positive if query_ids[i] == gallery_ids[j] else negative).append(distance)
    return np.sort(positive), np.sort(negative)


def share_below(ordered: np.ndarray, threshold: float) -> float:
    return float(np.searchsorted(ordered, threshold, side="left")) / len(ordered)


def plain_equal_error_rate(positive: np.ndarray, negative: np.ndarray) -> float:
    grid = np.sort(np.concatenate([positive, negative, [2.0]]))
    gaps = [abs(share_below(negative, t) - 1 + share_below(positive, t)) for t in grid]
    best = grid[int(np.argmin(gaps))]
    return (share_below(negative, best) + 1 - share_below(positive, best)) / 2


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.sampled_from([1, 2**28]))
def test_equals_sorting_all_pairs_up_to_the_bin_width(seed: int, camera_rule: bool, budget: int) -> None:
    arrays, bins = draw(seed), 2**14
    positive, negative = plain_pairs(arrays, camera_rule)
    with memory_budget(budget):
        result = verify(*arrays, camera_rule=camera_rule, false_positive_rates=RATES, bins=bins)
    assert (result.num_positive, result.num_negative) == (len(positive), len(negative))
    width = 2 / bins
    for rate in RATES:
        # The first negative that the rate does not allow bounds the threshold, from above and within a bin.
        bound = negative[int(np.floor(rate * len(negative)))]
        assert bound - width - 1e-6 <= result.thresholds[rate] <= bound + 1e-6
        low = share_below(positive, result.thresholds[rate] - 1e-6)
        high = share_below(positive, result.thresholds[rate] + 1e-6)
        assert low <= result.tpr_at_fpr[rate] <= high
        assert share_below(negative, result.thresholds[rate] - 1e-6) <= rate
    resolution = 2 / len(positive) + 2 / len(negative)
    assert result.equal_error_rate == pytest.approx(plain_equal_error_rate(positive, negative), abs=resolution)


def test_points_of_the_curve_are_those_of_the_plain_sort() -> None:
    arrays = draw(1)
    positive, negative = plain_pairs(arrays, camera_rule=True)
    result = verify(*arrays)
    assert 50 < len(result.fpr) <= 1001
    assert (np.diff(result.fpr) >= 0).all()
    assert (np.diff(result.tpr) >= 0).all()
    assert (result.fpr[0], result.fpr[-1], result.tpr[-1]) == (0.0, 1.0, 1.0)
    bounds = np.concatenate([[0.0], negative, [2.0]])
    for fpr, tpr in zip(result.fpr, result.tpr, strict=True):
        number = round(fpr * len(negative))
        assert fpr == number / len(negative)
        # The threshold of the point lies between the last false pair that passes and the first that does not.
        assert share_below(positive, bounds[number] - 1e-6) <= tpr
        assert tpr <= share_below(positive, bounds[number + 1] + 1e-6)


def test_separable_features_have_no_error() -> None:
    eye = torch.eye(4)
    result = verify(eye, eye, [1, 2, 3, 4], [1, 2, 3, 4], [0] * 4, [1] * 4)
    assert result.equal_error_rate == 0.0
    assert set(result.tpr_at_fpr.values()) == {1.0}
    assert result.thresholds[1e-3] == pytest.approx(1.0, abs=1e-4)
    assert (result.num_positive, result.num_negative) == (4, 12)


def test_opposite_features_are_always_wrong() -> None:
    query = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    result = verify(query, -query, [1, 2], [1, 2], [0, 0], [1, 1])
    assert result.equal_error_rate == 1.0
    assert set(result.tpr_at_fpr.values()) == {0.0}


def test_scaling_a_feature_changes_nothing() -> None:
    arrays = draw(2)
    scaled = (arrays[0] * 8, arrays[1] * np.float32(0.25), *arrays[2:])
    first, second = verify(*arrays), verify(*scaled)
    assert first.tpr_at_fpr == second.tpr_at_fpr
    assert first.thresholds == second.thresholds


def test_pairs_of_one_camera_count_only_without_the_rule() -> None:
    arrays = draw(3)
    with_rule, without = verify(*arrays), verify(*arrays, camera_rule=False)
    assert without.num_positive + without.num_negative == 60 * 200
    assert with_rule.num_positive + with_rule.num_negative == int((arrays[4][:, None] != arrays[5]).sum())


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_refuses_a_rate_out_of_range(rate: float) -> None:
    with pytest.raises(ReidError, match=r"false_positive_rates must be in \(0, 1\), got"):
        verify(*draw(4), false_positive_rates=[rate])


def test_refuses_too_few_bins() -> None:
    with pytest.raises(ReidError, match=r"bins must be in \[2, 2\*\*24\], got 1"):
        verify(*draw(4), bins=1)


def test_refuses_data_without_a_positive_pair() -> None:
    with pytest.raises(ReidError, match=r"pairs of one person \(camera_rule=True\), got none; pass camera_rule"):
        verify(torch.eye(2), torch.eye(2), [1, 2], [1, 2], [0, 1], [0, 1])


def test_refuses_data_without_a_negative_pair() -> None:
    with pytest.raises(ReidError, match=r"pairs of two persons \(camera_rule=False\), got none; check the labels"):
        verify(torch.eye(2), torch.eye(2), [1, 1], [1, 1], [0, 1], [0, 1], camera_rule=False)
