import pytest
import torch

from losses.identity import IdentityLoss
from tests.losses.conftest import LossBatch, assert_equals_twin
from tests.reference.losses import plain_identity
from utils.errors import ReidError


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_equals_plain_twin(batch: LossBatch, smoothing: float) -> None:
    weight = torch.randn(10, 12, dtype=torch.float64)
    loss = IdentityLoss(10, 12, smoothing)
    assert_equals_twin(
        lambda x, w: torch.func.functional_call(loss, {"classifier.weight": w}, (x, batch.ids)),
        lambda x, w: plain_identity(x, w, batch.ids, smoothing),
        (batch.embeddings, weight),
    )


def test_classifier_has_no_bias_and_starts_small() -> None:
    classifier = IdentityLoss(200, 100).classifier
    assert classifier.bias is None
    assert tuple(classifier.weight.shape) == (200, 100)
    assert float(classifier.weight.detach().std()) == pytest.approx(0.001, rel=0.05)


def test_accuracy() -> None:
    loss = IdentityLoss(3, 3)
    torch.nn.init.eye_(loss.classifier.weight)
    features = torch.eye(3)[[0, 1, 2, 2]]
    result = loss.with_statistics(features, torch.tensor([0, 1, 0, 2]))
    assert float(result.statistics["accuracy"]) == pytest.approx(3 / 4)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ReidError, match="num_ids and dim must be at least 1, got 3 and 0"):
        IdentityLoss(3, 0)
    with pytest.raises(ReidError, match=r"label_smoothing must be >= 0 and < 1, got 1\.0; 0\.1 is usual"):
        IdentityLoss(3, 4, 1.0)
    with pytest.raises(
        ReidError, match="embeddings must have 4 columns, the dim of this loss, got 5; build the loss"
    ):
        IdentityLoss(3, 4)(torch.ones(1, 5), torch.zeros(1, dtype=torch.long))
