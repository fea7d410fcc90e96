"""The first gallery items of each query by the rules of the reported figures, in bounded memory."""

from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.distance_blocks import DistanceBlocks
from evaluation.inputs import RetrievalInputs
from utils.blocks import row_blocks

_WORDS_PER_PAIR = 5  # the order of the matches, that of the distances, their buffers, and the items


class NearestItems(NamedTuple):
    """At most k items of each of Q queries, nearest first.

    Attributes:
        values: (Q, K) negated cosines, ascending.
        items: (Q, K) int64, positions in the gallery.
        matches: (Q, K) bool, whether an item shows the query's person.
        counts: (Q,) int64, how many of a row are kept; what follows has been left out.
    """

    values: Tensor
    items: Tensor
    matches: Tensor
    counts: Tensor


def nearest_items(inputs: RetrievalInputs, k: int, camera_rule: bool) -> NearestItems:
    """The ``k`` nearest by cosine; at a tie every item that is no match first, then by position.

    Args:
        inputs: query and gallery.
        k: items per query.
        camera_rule: leave out the gallery items of the query's person from the query's camera.
    """
    load = DistanceBlocks(inputs, "cosine")
    per_query = len(inputs.gallery) * (8 * _WORDS_PER_PAIR + 2 * inputs.query.dtype.itemsize)
    parts = [_block(load(rows), inputs, rows, k, camera_rule) for rows in row_blocks(len(inputs.query), per_query)]
    return NearestItems(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _block(
    values: Tensor, inputs: RetrievalInputs, rows: slice, k: int, camera_rule: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    matches = inputs.query_ids[rows, None] == inputs.gallery_ids
    counts = torch.full_like(inputs.query_ids[rows], values.shape[1])
    if camera_rule:
        left_out = matches & (inputs.query_cameras[rows, None] == inputs.gallery_cameras)
        values.masked_fill_(left_out, float("inf"))
        counts -= left_out.sum(1)
    others_first = matches.byte().sort(dim=1, stable=True).indices
    values, order = values.gather(1, others_first).sort(dim=1, stable=True)
    items = others_first.gather(1, order[:, :k])
    # A copy: a view would hold the whole sorted block.
    return values[:, :k].clone(), items, matches.gather(1, items), counts.clamp_max(k)
