"""Cut work into blocks that fit the memory budget."""

from collections.abc import Iterator

MEMORY_BUDGET = 256 * 2**20
"""Bytes of working memory of one evaluation or search, beside its inputs and results."""

CHUNK_ELEMENTS = 2**20
"""Elements that a pass over a matrix widens or copies at once, beside the budget."""


def row_blocks(num_rows: int, bytes_per_row: int, share: float = 1.0) -> Iterator[slice]:
    """Cut rows into consecutive blocks of nearly equal length that fit the budget; a block has at least one row.

    Args:
        num_rows: number of rows.
        bytes_per_row: memory that one row takes while its block is processed.
        share: part of :data:`MEMORY_BUDGET` that a block may take.
    """
    longest = max(1, int(share * MEMORY_BUDGET) // max(1, bytes_per_row))
    num_blocks = max(1, -(-num_rows // longest))
    return blocks_of(num_rows, max(1, -(-num_rows // num_blocks)))


def blocks_of(num_rows: int, length: int) -> Iterator[slice]:
    """Cut rows into consecutive blocks of ``length`` rows; the last one may be shorter."""
    for start in range(0, num_rows, length):
        yield slice(start, min(num_rows, start + length))


def rows_per_chunk(num_columns: int) -> int:
    """Rows of :data:`CHUNK_ELEMENTS`, of one row at least."""
    return max(1, CHUNK_ELEMENTS // max(1, num_columns))
