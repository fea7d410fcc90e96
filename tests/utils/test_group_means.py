import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from utils import blocks
from utils.errors import ReidError
from utils.group_means import group_means, mean_weights


def plain_means(vectors: Tensor, groups: Tensor, num_groups: int, valid: Tensor) -> tuple[Tensor, Tensor]:
    means, counts = [], []
    for group in range(num_groups):
        rows = [
            v for v, g, ok in zip(vectors.tolist(), groups.tolist(), valid.tolist(), strict=True) if ok and g == group
        ]
        counts.append(len(rows))
        means.append(
            [sum(column) / len(rows) for column in zip(*rows, strict=True)] if rows else [0.0] * vectors.shape[1]
        )
    return torch.tensor(means, dtype=torch.float64), torch.tensor(counts, dtype=torch.float64)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**31))
def test_equals_the_plain_loop(num_rows: int, dim: int, num_groups: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(num_rows, dim, generator=generator, dtype=torch.float64)
    groups = torch.randint(num_groups, (num_rows,), generator=generator)
    valid = torch.rand(num_rows, generator=generator) < 0.7
    means, counts = group_means(vectors, groups, num_groups, valid)
    expected_means, expected_counts = plain_means(vectors, groups, num_groups, valid)
    assert torch.allclose(means, expected_means, atol=1e-12)
    assert torch.equal(counts, expected_counts)


def test_empty_group_is_zero_with_count_zero_and_a_finite_gradient() -> None:
    vectors = torch.tensor([[1.0, 3.0], [3.0, 5.0]], requires_grad=True)
    means, counts = group_means(vectors, torch.tensor([2, 2]), 4)
    assert means.tolist() == [[0, 0], [0, 0], [2, 4], [0, 0]]
    assert counts.tolist() == [0, 0, 2, 0]
    means.sum().backward()
    assert vectors.grad.tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_gradient_is_that_of_finite_differences() -> None:
    vectors = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    groups, valid = torch.tensor([0, 1, 0, 1, 1]), torch.tensor([True, True, True, False, True])
    assert torch.autograd.gradcheck(lambda v: group_means(v, groups, 3, valid).means, (vectors,))


def test_invalid_rows_reach_neither_mean_nor_gradient_even_as_nan() -> None:
    vectors = torch.tensor([[1.0], [float("nan")], [3.0]], requires_grad=True)
    means, counts = group_means(vectors, torch.tensor([0, 0, 0]), 1, torch.tensor([True, False, True]))
    assert means.item() == 2.0
    assert counts.item() == 2.0
    means.sum().backward()
    assert vectors.grad.tolist() == [[0.5], [0.0], [0.5]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_accumulate_in_itself(dtype: torch.dtype) -> None:
    # 4,096 ones summed in bfloat16 stay at 256, in float16 at 2,048.
    vectors = torch.ones(4096, 1, dtype=dtype)
    means, _ = group_means(vectors, torch.zeros(4096, dtype=torch.int32), 1)
    assert means.dtype == torch.float32
    assert means.item() == 1.0


@pytest.mark.parametrize("number", [3, 7, 97])
def test_mean_of_equal_float32_vectors_is_that_vector(number: int) -> None:
    vector = torch.randn(64, generator=torch.Generator().manual_seed(number))
    means, _ = group_means(vector.expand(number, 64), torch.zeros(number, dtype=torch.long), 1)
    assert torch.equal(means[0], vector)


def test_chunks_do_not_change_the_means_or_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = torch.randn(11, 4, dtype=torch.float64, requires_grad=True)
    groups, valid = torch.arange(11) % 3, torch.arange(11) != 5
    whole = group_means(vectors, groups, 3, valid)
    monkeypatch.setattr(blocks, "CHUNK_ELEMENTS", 9)  # two rows
    parts = group_means(vectors, groups, 3, valid)
    torch.testing.assert_close(parts.means, whole.means)
    assert torch.equal(parts.counts, whole.counts)
    assert torch.autograd.gradcheck(lambda v: group_means(v, groups, 3, valid).means, (vectors,))


def test_mean_weights_times_members_are_the_means() -> None:
    vectors = torch.randn(6, 3, dtype=torch.float64)
    groups = torch.tensor([0, 2, 0, 2, 2, 0])
    memberships = (groups == torch.arange(3)[:, None]).double()
    weights = mean_weights(memberships)
    torch.testing.assert_close(weights @ vectors, group_means(vectors, groups, 3).means)
    assert weights[1].tolist() == [0.0] * 6
    assert mean_weights(torch.tensor([[[3.0, 1.0, 0.0]]])).tolist() == [[[0.75, 0.25, 0.0]]]


def test_refuses_vectors_that_are_no_matrix() -> None:
    with pytest.raises(ReidError, match=r"vectors must be \(N, D\), got \(3,\)"):
        group_means(torch.zeros(3), torch.zeros(3, dtype=torch.long), 1)


def test_refuses_groups_of_another_length() -> None:
    with pytest.raises(ReidError, match=r"groups must have one entry per row of vectors \(3,\), got \(2,\)"):
        group_means(torch.zeros(3, 2), torch.zeros(2, dtype=torch.long), 1)


def test_refuses_valid_of_another_length() -> None:
    with pytest.raises(ReidError, match="valid must have one entry per row"):
        group_means(torch.zeros(3, 2), torch.zeros(3, dtype=torch.long), 1, torch.ones(4, dtype=torch.bool))
