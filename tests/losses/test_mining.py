import pytest
import torch

from losses.mining import (
    PairMasks,
    check_batch,
    check_margin,
    hardest_pairs,
    pair_masks,
    pair_statistics,
    triplet_losses,
    without_padding,
)
from utils.errors import ReidError

IDS = torch.tensor([1, 2, 1, 3])


def test_masks_equal_plain_loops() -> None:
    valid = torch.tensor([True, True, True, False])
    masks = pair_masks(IDS, valid)
    for i in range(4):
        for j in range(4):
            both = bool(valid[i] and valid[j])
            assert masks.positives[i, j] == (both and i != j and IDS[i] == IDS[j])
            assert masks.negatives[i, j] == (both and IDS[i] != IDS[j])
    assert torch.equal(pair_masks(IDS).negatives, IDS[:, None] != IDS[None, :])


def test_hardest_pairs_by_hand() -> None:
    distances = torch.tensor([[0.0, 5.0, 2.0, 4.0], [5.0, 0.0, 1.0, 3.0], [2.0, 1.0, 0.0, 6.0], [4.0, 3.0, 6.0, 0.0]])
    pairs = hardest_pairs(distances, pair_masks(IDS))
    assert pairs.defined.tolist() == [True, False, True, False]
    assert pairs.positive.tolist() == [2.0, 0.0, 2.0, 0.0]
    assert pairs.negative.tolist() == [4.0, 0.0, 1.0, 0.0]
    assert triplet_losses(pairs, 0.5).tolist() == [0.0, 0.0, 1.5, 0.0]
    soft = torch.log1p(torch.tensor([-2.0, 1.0]).exp())
    torch.testing.assert_close(triplet_losses(pairs, None), torch.stack([soft[0], soft[0] * 0, soft[1], soft[0] * 0]))
    statistics = pair_statistics(pairs, 0.5)
    assert {name: float(value) for name, value in statistics.items()} == {
        "hardest_positive": 2.0,
        "hardest_negative": 2.5,
        "active": 0.5,
    }


def test_statistics_without_an_anchor_are_zero() -> None:
    nothing = torch.zeros(2, 2, dtype=torch.bool)
    pairs = hardest_pairs(torch.ones(2, 2), PairMasks(nothing, nothing))
    assert all(value == 0 for value in pair_statistics(pairs, 0.3).values())


def test_a_nan_is_not_hidden() -> None:
    distances = torch.ones(4, 4)
    distances[0, 2] = torch.nan
    assert triplet_losses(hardest_pairs(distances, pair_masks(IDS)), 0.3).isnan().tolist() == [
        True,
        False,
        False,
        False,
    ]


def test_padding_is_zeroed_even_if_nan() -> None:
    embeddings = torch.tensor([[1.0], [torch.nan]])
    assert without_padding(embeddings, None) is embeddings
    assert without_padding(embeddings, torch.tensor([True, False])).tolist() == [[1.0], [0.0]]


@pytest.mark.parametrize("margin", [-0.1, float("nan"), float("inf")])
def test_bad_margin_is_refused(margin: float) -> None:
    with pytest.raises(ReidError, match=r"margin must be a finite number >= 0, or None .* got .*; 0\.3 is usual"):
        check_margin(margin)


@pytest.mark.parametrize("embeddings", [torch.ones(4), torch.ones(0, 3), torch.ones(4, 3, dtype=torch.int64)])
def test_bad_embeddings_are_refused(embeddings: torch.Tensor) -> None:
    with pytest.raises(ReidError, match=r"embeddings must be a floating-point matrix .* got shape \("):
        check_batch(embeddings, IDS, None)


@pytest.mark.parametrize("ids", [IDS[:3], IDS[:, None], IDS.float(), IDS > 1])
def test_bad_ids_are_refused(ids: torch.Tensor) -> None:
    with pytest.raises(ReidError, match=r"ids must be integers of shape \(4,\), .* got shape"):
        check_batch(torch.ones(4, 3), ids, None)


@pytest.mark.parametrize("valid", [IDS[:3] > 0, IDS])
def test_bad_valid_is_refused(valid: torch.Tensor) -> None:
    with pytest.raises(ReidError, match=r"valid must be a bool mask of shape \(4,\), .* got shape"):
        check_batch(torch.ones(4, 3), IDS, valid)
