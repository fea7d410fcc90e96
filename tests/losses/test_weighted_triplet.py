from losses.weighted_triplet import WeightedTripletLoss
from tests.losses.conftest import LossBatch, assert_equals_twin
from tests.reference.losses import plain_weighted_triplet
from utils.distance import Metric


def test_equals_plain_twin(batch: LossBatch, mining_arguments: tuple[float | None, Metric]) -> None:
    loss = WeightedTripletLoss(*mining_arguments)
    assert_equals_twin(
        lambda x: loss(x, batch.ids),
        lambda x: plain_weighted_triplet(x, batch.ids, *mining_arguments),
        (batch.embeddings,),
    )
