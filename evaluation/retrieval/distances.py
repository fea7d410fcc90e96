"""Query-gallery distances a block of queries at a time, in bounded memory and full precision."""

from collections.abc import Iterator

import torch
from torch import Tensor

from evaluation.retrieval.duplicates import find_duplicates
from evaluation.retrieval.inputs import Retrieval
from utils.blocks import row_blocks
from utils.distance import SMALLEST_NORM, Metric, check_metric
from utils.precision import full_precision

_ROWS_PER_CHUNK = 4096


class DistanceBlocks:
    """Blocks of values that rank each row of the gallery as its distances do, from one matrix product.

    The values are the negated cosine similarity, or ``|g - c|^2 / 2 - (q - c).g`` minus the median of the first term
    for the euclidean metrics, where c is an item of usual norm. The omitted terms are constant along a row, and
    adding them would only round away digits that distinguish near items.

    A block holds whole rows, so the distance of a match comes from the same product as the distances it is compared
    with; a second product of another shape would differ in the last bit. Equal gallery rows get equal values.
    """

    def __init__(self, retrieval: Retrieval, metric: Metric = "cosine") -> None:
        check_metric(metric)
        query, gallery = retrieval.query, retrieval.gallery
        self._gallery = gallery
        self._scale: Tensor | None = None
        self._shift: Tensor | None = None
        if metric == "cosine":
            self._query = query / retrieval.query_norms.clamp_min(SMALLEST_NORM)[:, None]
            self._scale = retrieval.gallery_norms.clamp_min(SMALLEST_NORM).reciprocal().neg()
        else:
            # Not the mean: one far item would shift it, and it turns whole numbers into fractions.
            center = gallery[retrieval.gallery_norms.median(0).indices].to(query.dtype)
            self._query = query - center
            self._shift = _half_squared_norms(gallery, center.double()).to(query.dtype)
        self._duplicates = find_duplicates(gallery, query.dtype)

    def blocks(self, extra_bytes: int) -> Iterator[tuple[slice, Tensor]]:
        """Rows of the query, in order, each with their (rows, G) values.

        The caller may overwrite a block; it is valid until the next one, which uses the same memory, is requested.

        Args:
            extra_bytes: memory that the work on a block needs for each query, beside its values.
        """
        num_items, dtype = len(self._gallery), self._query.dtype
        buffer = self._query.new_empty(0)
        for rows in row_blocks(len(self._query), num_items * dtype.itemsize + extra_bytes):
            num_values = (rows.stop - rows.start) * num_items
            if buffer.numel() < num_values:
                buffer = self._query.new_empty(num_values)
            block = buffer[:num_values].view(-1, num_items)
            # Never held over a yield: the caller's precision is not ours to change.
            with full_precision(self._query.device):
                self._fill(block, self._query[rows])
            yield rows, block

    def _fill(self, block: Tensor, query: Tensor) -> None:
        self._multiply(block, query)
        if self._scale is not None:
            block.mul_(self._scale)
        else:
            assert self._shift is not None
            torch.sub(self._shift, block, out=block)
        self._duplicates.copy_columns(block)

    def _multiply(self, block: Tensor, query: Tensor) -> None:
        if self._gallery.dtype == query.dtype:
            torch.mm(query, self._gallery.T, out=block)
            return
        # A half-precision gallery is widened chunk by chunk: a whole copy would break the memory bound.
        for start in range(0, len(self._gallery), _ROWS_PER_CHUNK):
            chunk = self._gallery[start : start + _ROWS_PER_CHUNK].to(query.dtype)
            block[:, start : start + len(chunk)] = query @ chunk.T


def _half_squared_norms(features: Tensor, center: Tensor) -> Tensor:
    """Halves of the squared distances from ``center`` minus their median, in float64.

    They lie close together and far from zero, where float32 has few digits. One far item shifts a mean, but not the
    median.
    """
    chunks = (chunk.double() for chunk in torch.split(features, _ROWS_PER_CHUNK))
    squares = torch.cat([(chunk - center).square_().sum(1) for chunk in chunks])
    return (squares - squares.median()) / 2.0
