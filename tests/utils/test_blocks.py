import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import memory_budget
from utils.blocks import blocks_of, row_blocks, rows_per_chunk


def rows_of(parts: list[slice]) -> list[int]:
    return [row for part in parts for row in range(part.start, part.stop)]


@given(st.integers(0, 300), st.integers(1, 40))
def test_blocks_are_consecutive_and_whole(num_rows: int, length: int) -> None:
    parts = list(blocks_of(num_rows, length))
    assert rows_of(parts) == list(range(num_rows))
    assert all(part.stop - part.start == length for part in parts[:-1])


@given(st.integers(0, 300), st.integers(0, 50), st.sampled_from([0.25, 1.0]))
def test_blocks_fit_the_budget_and_are_nearly_equal(num_rows: int, row_bytes: int, share: float) -> None:
    with memory_budget(400):
        parts = list(row_blocks(num_rows, row_bytes, share))
    assert rows_of(parts) == list(range(num_rows))
    lengths = [part.stop - part.start for part in parts]
    longest = max(1, int(400 * share) // max(1, row_bytes))
    assert all(length <= longest for length in lengths)
    assert len(lengths) == -(-num_rows // longest)  # no more of them than the budget asks for
    assert not lengths or max(lengths) == -(-num_rows // len(lengths))


@pytest.mark.parametrize(("columns", "rows"), [(2048, 512), (0, 2**20), (2**30, 1)])
def test_a_chunk_has_a_number_of_elements(columns: int, rows: int) -> None:
    assert rows_per_chunk(columns) == rows
