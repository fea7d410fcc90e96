import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.ranking import evaluate_ranking
from evaluation.retrieval.distances import DistanceBlocks
from evaluation.retrieval.duplicates import find_duplicates
from evaluation.retrieval.inputs import Retrieval
from utils import blocks

DTYPES = [torch.float16, torch.float32, torch.float64]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 8), st.integers(0, 2**31), st.sampled_from(DTYPES))
def test_finds_every_row_that_equals_an_earlier_one(
    number: int, distinct: int, seed: int, dtype: torch.dtype
) -> None:
    rng = np.random.default_rng(seed)
    pool = rng.choice([-1.5, 0.0, 0.5], (distinct, 3))
    features = torch.from_numpy(pool[rng.integers(0, distinct, number)]).to(dtype)
    duplicates = find_duplicates(features, torch.promote_types(dtype, torch.float32))
    first_of: dict[tuple[float, ...], int] = {}
    reference = {}
    for position, row in enumerate(map(tuple, features.tolist())):
        first = first_of.setdefault(row, position)
        if first != position:
            reference[position] = first
    assert dict(zip(duplicates.rows.tolist(), duplicates.first.tolist(), strict=True)) == reference


def test_zeros_of_either_sign_are_equal() -> None:
    features = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [2.0, 1.0]])
    assert find_duplicates(features, torch.float32).rows.tolist() == [1]


def test_rows_of_equal_hash_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same factor for each column the hash does not see the order of a row."""
    monkeypatch.setattr(torch, "randint", lambda *arguments, **_: torch.zeros(arguments[-1], dtype=torch.int64))
    features = torch.tensor([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0], [1.0, 3.0]])
    assert find_duplicates(features, torch.float32).rows.tolist() == [1]


def test_rows_that_agree_in_the_columns_looked_at_first_are_told_apart() -> None:
    features = torch.zeros(6, 64)
    features[:, 1] = torch.tensor([1.0, 2.0, 1.0, 2.0, 3.0, 1.0])  # not among every fourth column
    duplicates = find_duplicates(features, torch.float32)
    assert dict(zip(duplicates.rows.tolist(), duplicates.first.tolist(), strict=True)) == {2: 0, 5: 0, 3: 1}


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [5, 37, 128, 512, 2048])
def test_equal_items_are_at_one_distance_wherever_they_stand(
    dim: int, dtype: torch.dtype, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "CHUNK_ELEMENTS", 64)  # several chunks
    rng = torch.Generator().manual_seed(dim)
    gallery = torch.randn(9, dim, generator=rng).to(dtype).repeat(5, 1)[torch.randperm(45, generator=rng)][:41]
    query_dtype = torch.promote_types(dtype, torch.float32)
    for number in (1, 2, 3, 8):
        query = torch.randn(number, dim, generator=rng, dtype=query_dtype)
        retrieval = Retrieval.of(query, gallery, [1] * number, [1] * 41, [0] * number, [1] * 41)
        ((_, block),) = DistanceBlocks(retrieval, metric).blocks(0)
        block = block.T
        same = (gallery[:, None] == gallery[None]).all(2)
        assert torch.equal((block[:, None] == block[None]).all(2), same)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [37, 128, 512, 2048])
def test_the_place_of_the_match_among_equal_items_does_not_matter(dim: int, dtype: torch.dtype) -> None:
    vector = torch.randn(dim, generator=torch.Generator().manual_seed(dim), dtype=dtype)
    for number in (1, 2, 3, 8):
        for place in range(0, 37, 4):
            ids = np.full(37, 2)
            ids[place] = 1
            result = evaluate_ranking(
                vector.expand(number, dim), vector.expand(37, dim), [1] * number, ids, [0] * number, [1] * 37
            )
            assert result.mAP == pytest.approx(1 / 37)
