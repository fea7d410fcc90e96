import pytest
import torch

from losses.base import check_batch
from utils.errors import ReidError

IDS = torch.tensor([1, 2, 1, 3])


@pytest.mark.parametrize("embeddings", [torch.ones(4), torch.ones(0, 3), torch.ones(4, 3, dtype=torch.int64)])
def test_bad_embeddings_are_refused(embeddings: torch.Tensor) -> None:
    with pytest.raises(ReidError, match=r"embeddings must be a floating-point matrix .* got shape \("):
        check_batch(embeddings, IDS)


@pytest.mark.parametrize("ids", [IDS[:3], IDS[:, None], IDS.float(), IDS > 1])
def test_bad_ids_are_refused(ids: torch.Tensor) -> None:
    with pytest.raises(ReidError, match=r"ids must be integers of shape \(4,\), .* got shape"):
        check_batch(torch.ones(4, 3), ids)
