import pytest
import torch

from losses.centroid_triplet import CentroidTripletLoss
from losses.mining import (
    MinedLoss,
    MiningLoss,
    PairMasks,
    hardest_pairs,
    pair_masks,
    pair_statistics,
    triplet_losses,
)
from losses.octuplet import OctupletLoss
from losses.triplet import BatchHardTripletLoss
from utils.errors import ReidError

IDS = torch.tensor([1, 2, 1, 3])


def test_masks_equal_plain_loops() -> None:
    masks = pair_masks(IDS)
    for i in range(4):
        for j in range(4):
            assert masks.positives[i, j] == (i != j and IDS[i] == IDS[j])
            assert masks.negatives[i, j] == (IDS[i] != IDS[j])


def test_hardest_pairs_by_hand() -> None:
    distances = torch.tensor([[0.0, 5.0, 2.0, 4.0], [5.0, 0.0, 1.0, 3.0], [2.0, 1.0, 0.0, 6.0], [4.0, 3.0, 6.0, 0.0]])
    pairs = hardest_pairs(distances, pair_masks(IDS))
    assert pairs.valid.tolist() == [True, False, True, False]
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


class _NearestNegative(MiningLoss):
    """The least that a subclass needs."""

    def compute(self, embeddings: torch.Tensor, ids: torch.Tensor) -> MinedLoss:
        pairs = hardest_pairs(torch.cdist(embeddings, embeddings), pair_masks(ids))
        return MinedLoss(-pairs.negative.sum(), pairs, lambda: {"rows": torch.tensor(len(ids))})


def test_a_subclass_needs_its_mathematics_alone() -> None:
    loss = _NearestNegative(0.5)
    embeddings = torch.tensor([[0.0], [3.0], [1.0], [9.0]])
    assert float(loss(embeddings, IDS)) == -5.0
    value, statistics = loss.with_statistics(embeddings, IDS)
    assert float(value) == -5.0
    assert {name: float(figure) for name, figure in statistics.items()} == {
        "hardest_positive": 1.0,
        "hardest_negative": 2.5,
        "active": 0.0,
        "rows": 4.0,
    }
    assert repr(loss) == "_NearestNegative(margin=0.5, distance='euclidean')"
    assert repr(OctupletLoss(None, "cosine", ("hl",))) == (
        "OctupletLoss(margin=None, distance='cosine', terms=('hl',))"
    )


@pytest.mark.parametrize("kind", [BatchHardTripletLoss, CentroidTripletLoss, OctupletLoss])
def test_bad_arguments_are_refused(kind: type[MiningLoss]) -> None:
    for margin in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ReidError, match=r"margin must be a finite number >= 0, or None .* got .*; 0\.3 is usual"):
            kind(margin)
    with pytest.raises(ReidError, match="metric must be one of"):
        kind(0.3, "manhattan")  # type: ignore[arg-type]
