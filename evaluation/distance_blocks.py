"""Query-gallery distances a block of queries at a time, in bounded memory and full precision."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from evaluation.duplicates import find_duplicates
from evaluation.inputs import RetrievalInputs
from utils.distance import Metric, check_metric

_SMALLEST_NORM = 1e-12
_ROWS_PER_CHUNK = 4096


def bytes_per_query(num_gallery: int, dtype: torch.dtype, device: torch.device, num_own: int = 0) -> int:
    """Working memory of one row of a block: its values, their sorting, and the query's own items.

    Args:
        num_gallery: G.
        dtype: of the values.
        device: where they lie. Only on the CPU are they sorted in place.
        num_own: most gallery items of one identity.
    """
    per_item = dtype.itemsize if device.type == "cpu" else 3 * dtype.itemsize + 16
    return num_gallery * per_item + num_own * 64


class DistanceBlocks:
    """Blocks of values that rank a row of the gallery as its distances do, at one matrix product.

    Cosine gives the cosine similarity negated, the euclidean metrics ``|g - c|^2 / 2 - (q - c).g`` less the
    median of the first term, c an item of usual norm. What is left out is constant along a row: adding it would
    only round away digits that tell near items apart.

    A block holds whole rows, so that the distance of a match is read from the very product it is compared
    with; a second product of another shape would differ in its last bit. Equal gallery rows get equal values.
    """

    def __init__(self, inputs: RetrievalInputs, metric: Metric) -> None:
        check_metric(metric)
        self._query, self._gallery = inputs.query, inputs.gallery
        self._scale: Tensor | None = None
        self._shift: Tensor | None = None
        if metric == "cosine":
            self._query = inputs.query / inputs.query_norms.clamp_min(_SMALLEST_NORM)[:, None]
            self._scale = inputs.gallery_norms.clamp_min(_SMALLEST_NORM).reciprocal().neg()
        else:
            # Not the mean, which one item far out would drag along, and which makes fractions of whole numbers.
            center = inputs.gallery[inputs.gallery_norms.median(0).indices].to(inputs.query.dtype)
            self._query = inputs.query - center
            self._shift = _half_squared_norms(inputs.gallery, center.double()).to(inputs.query.dtype)
        self._duplicates = find_duplicates(inputs.gallery, inputs.query.dtype)
        self._buffer = inputs.query.new_empty(0)

    def __call__(self, rows: slice) -> Tensor:
        """(rows, G) values; the memory is used again by the next call."""
        query = self._query[rows]
        shape = (len(query), len(self._gallery))
        if self._buffer.numel() < shape[0] * shape[1]:
            self._buffer = query.new_empty(shape[0] * shape[1])
        block = self._buffer[: shape[0] * shape[1]].view(shape)
        self._product(query, block)
        if self._scale is not None:
            block.mul_(self._scale)
        else:
            assert self._shift is not None
            torch.sub(self._shift, block, out=block)
        self._duplicates.copy_columns(block)
        return block

    def each(self, blocks: Iterable[slice]) -> Iterator[tuple[slice, Tensor]]:
        """Each of the given rows with its block; a block is valid until the next one is asked for."""
        for rows in blocks:
            yield rows, self(rows)

    def _product(self, query: Tensor, block: Tensor) -> None:
        if self._gallery.dtype == query.dtype:
            torch.mm(query, self._gallery.T, out=block)
            return
        # A half-precision gallery is widened chunk by chunk: a whole copy would break the memory bound.
        for start in range(0, len(self._gallery), _ROWS_PER_CHUNK):
            chunk = self._gallery[start : start + _ROWS_PER_CHUNK].to(query.dtype)
            block[:, start : start + len(chunk)] = query @ chunk.T


def _half_squared_norms(features: Tensor, center: Tensor) -> Tensor:
    """Halves of the squared distances from ``center`` less their median, in float64.

    They lie close together and far from zero, where float32 has few digits. One item far out, which would
    drag a mean along, does not move the median.
    """
    starts = range(0, len(features), _ROWS_PER_CHUNK)
    chunks = (features[start : start + _ROWS_PER_CHUNK].double() for start in starts)
    squares = torch.cat([(chunk - center).square_().sum(1) for chunk in chunks])
    return (squares - squares.median()) / 2.0
