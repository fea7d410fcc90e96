import pytest

from losses.similarity import MultiSimilarityLoss, PairwiseCircleLoss
from tests.losses.conftest import LossBatch, assert_equals_twin
from tests.reference.losses import plain_circle, plain_multi_similarity
from utils.errors import ReidError


@pytest.mark.parametrize(("margin", "scale"), [(0.25, 16.0), (0.0, 4.0)])
def test_circle_equals_plain_twin(batch: LossBatch, margin: float, scale: float) -> None:
    loss = PairwiseCircleLoss(margin, scale)
    assert_equals_twin(
        lambda x: loss(x, batch.ids), lambda x: plain_circle(x, batch.ids, margin, scale), (batch.embeddings,)
    )


@pytest.mark.parametrize("arguments", [(0.5, 2.0, 20.0, 0.1), (0.2, 4.0, 10.0, 0.0)])
def test_multi_similarity_equals_plain_twin(batch: LossBatch, arguments: tuple[float, float, float, float]) -> None:
    loss = MultiSimilarityLoss(*arguments)
    assert_equals_twin(
        lambda x: loss(x, batch.ids),
        lambda x: plain_multi_similarity(x, batch.ids, *arguments),
        (batch.embeddings,),
    )


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ReidError, match=r"margin must be >= 0 and < 1 and scale > 0, got 1\.0 and 128\.0"):
        PairwiseCircleLoss(1.0)
    with pytest.raises(ReidError, match=r"positive_scale and negative_scale must be > 0"):
        MultiSimilarityLoss(positive_scale=0.0)
