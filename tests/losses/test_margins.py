import pytest
import torch

from losses.margins import MARGINS, CosineIdentityLoss
from tests.losses.conftest import LossBatch, assert_equals_twin
from tests.reference.losses import plain_cosine_identity
from utils.errors import ReidError


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize(("size", "scale", "smoothing"), [(0.0, 16.0, 0.0), (0.35, 30.0, 0.1), (1.2, 4.0, 0.1)])
def test_equals_plain_twin(batch: LossBatch, margin: str, size: float, scale: float, smoothing: float) -> None:
    weight = torch.randn(10, 12, dtype=torch.float64)
    loss = CosineIdentityLoss(10, 12, smoothing, margin, size, scale)
    assert_equals_twin(
        lambda x, w: torch.func.functional_call(loss, {"classifier.weight": w}, (x, batch.ids)),
        lambda x, w: plain_cosine_identity(x, w, batch.ids, smoothing, margin, size, scale),
        (batch.embeddings, weight),
    )


@pytest.mark.parametrize("margin", MARGINS)
def test_lengths_do_not_matter_and_a_margin_costs(margin: str) -> None:
    features, ids = torch.randn(6, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    loss = CosineIdentityLoss(3, 8, 0.0, margin, 0.3, 16.0)
    value = loss(features, ids)
    torch.testing.assert_close(loss(7 * features, ids), value)
    if margin != "circle":
        plain = CosineIdentityLoss(3, 8, 0.0, margin, 0.0, 16.0)
        plain.load_state_dict(loss.state_dict())
        assert float(plain(features, ids).detach()) < float(value.detach())


@pytest.mark.parametrize("margin", MARGINS)
def test_the_accuracy_counts_without_the_margin(margin: str) -> None:
    loss = CosineIdentityLoss(3, 3, 0.1, margin, 1.0)
    torch.nn.init.eye_(loss.classifier.weight)
    features = torch.tensor([[1.0, 0.9, 0.0], [0.0, 1.0, 0.9], [1.0, 0.0, 0.9]])
    result = loss.with_statistics(features, torch.tensor([0, 1, 2]))
    assert float(result.statistics["accuracy"]) == pytest.approx(2 / 3)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ReidError, match="margin must be one of arcface, cosface, circle"):
        CosineIdentityLoss(3, 4, margin="sphere")
    with pytest.raises(ReidError, match=r"size must be >= 0 and scale > 0, got -1\.0 and 64\.0"):
        CosineIdentityLoss(3, 4, size=-1.0)
