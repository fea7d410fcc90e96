"""Exact duplicates among the rows of a gallery: equal features must get equal distances.

A matrix product computes the columns at its edge with other instructions than the rest, so two equal rows may get
distances that differ in the last bit. The order of the gallery would then decide the rank of such a pair.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from utils.blocks import blocks_of, rows_per_chunk

_FEW_COLUMNS = 16
_SEED = 0


class Duplicates(NamedTuple):
    """Rows that repeat another one.

    Attributes:
        rows: (K,) int64, all rows of each set of equal rows except one.
        first: (K,) int64, for each of them that one.
    """

    rows: Tensor
    first: Tensor

    def copy_columns(self, block: Tensor) -> None:
        """Give the columns ``rows`` of a block (N, G) the values of the columns ``first``, in place."""
        for part in blocks_of(len(self.rows), rows_per_chunk(len(block))):
            block[:, self.rows[part]] = block[:, self.first[part]]


def find_duplicates(features: Tensor, dtype: torch.dtype) -> Duplicates:
    """Find equal rows of a matrix by hash values, first of a few columns, then of all columns where those repeat.

    Args:
        features: (G, D) floating point; zeros of either sign are equal.
        dtype: float32 or float64, in which the rows are compared.

    Returns:
        The duplicates. The hash only proposes them: every row is compared with its first.
    """
    rows = torch.arange(len(features), device=features.device)
    few = features[:, :: max(1, features.shape[1] // _FEW_COLUMNS)]
    rows = _repeated_values(_hashes(few, rows, dtype))
    hashes, order = _hashes(features, rows, dtype).sort(stable=True)
    rows = rows[order]
    same = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    candidates = (hashes[1:] == hashes[:-1]).nonzero()[:, 0]
    for part in torch.split(candidates, rows_per_chunk(features.shape[1])):
        same[part + 1] = (features[rows[part]] == features[rows[part + 1]]).all(1)
    places = torch.arange(len(rows), device=rows.device)
    first = rows[places.masked_fill(same, 0).cummax(0).values]
    return Duplicates(rows[same], first[same])


def _repeated_values(values: Tensor) -> Tensor:
    """Ascending positions of the values that occur more than once."""
    ordered, order = values.sort()
    equal = ordered[1:] == ordered[:-1]
    more = equal.new_zeros(len(values))
    more[1:] |= equal
    more[:-1] |= equal
    return order[more].sort().values


def _hashes(features: Tensor, rows: Tensor, dtype: torch.dtype) -> Tensor:
    """(len(rows),) int64. Integer sums wrap around and are exact, whatever the order of their terms."""
    bits = torch.int64 if dtype == torch.float64 else torch.int32
    generator = torch.Generator().manual_seed(_SEED)
    factors = torch.randint(-(2**62), 2**62, (features.shape[1],), generator=generator) * 2 + 1
    factors = factors.to(features.device)
    hashes = torch.empty(len(rows), dtype=torch.int64, device=features.device)
    for part in blocks_of(len(rows), rows_per_chunk(features.shape[1])):
        # Adding zero turns -0 into +0.
        chunk = features[rows[part]].to(dtype).add(0.0).contiguous().view(bits)
        hashes[part] = (chunk * factors).sum(1)
    return hashes
