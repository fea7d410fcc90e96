"""Pictures of the nearest gallery images of some queries."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.readers.market import UNKNOWN_ID, labels_of
from evaluation.ranking import evaluate_ranking
from evaluation.report.pictures import draw_ranked_list
from evaluation.report.ranked_lists import RankedList
from inference.gallery.store import Embeddings, Gallery
from inference.indexes.base import NOT_FOUND, Index
from inference.results import SearchFilter
from utils.errors import ReidError
from utils.pictures import write_png

_LONGEST_LIST = 10
_LONGEST_STEM = 100  # characters


class _Image(NamedTuple):
    """See :class:`evaluation.retrieval.inputs.LabeledImage`."""

    path: Path
    person_id: int
    camera_id: int


def write_ranked_pictures(
    folder: Path, queries: Embeddings, gallery: Gallery, index: Index, search_filter: SearchFilter, number: int
) -> list[Path]:
    """Write one PNG for each of some queries: the query and at most the first ten images of its list.

    Args:
        folder: absent or empty.
        queries: Q images, of which evenly spread ones are drawn.
        gallery: what ``index`` was made from.
        index: to search in.
        search_filter: which neighbors count.
        number: how many queries at most.

    Returns:
        The files, ``0001_<stem of the query>.png`` after the row of the query from 1.
    """
    rows = np.unique(np.linspace(0, len(queries) - 1, min(number, len(queries))).round().astype(np.int64))
    sample = Embeddings(np.array(queries.vectors[rows]), queries.paths[rows])
    images = _images(sample.paths, *labels_of(sample.paths))
    first = replace(search_filter, topk=min(search_filter.topk, _LONGEST_LIST) or _LONGEST_LIST)
    result = first.search(index, sample)
    precision = _average_precision(sample, gallery)
    files = []
    for place, (row, query) in enumerate(zip(rows.tolist(), images, strict=True)):
        items = result.indices[place][result.indices[place] != NOT_FOUND]
        of_items = _images(gallery.embeddings.paths[items], gallery.person_ids[items], gallery.camera_ids[items])
        matches = (gallery.person_ids[items] == query.person_id) & (query.person_id > 0)
        distances = result.distances[place][: len(items)].astype(np.float64)
        ranked = RankedList(0, np.arange(len(items)), distances, matches)
        of_query = float(precision[place]) if query.person_id > 0 else None
        picture = draw_ranked_list(ranked, [query], of_items, average_precision=of_query)
        path = folder / f"{row + 1:04d}_{query.path.stem[:_LONGEST_STEM]}.png"
        write_png(path, picture)
        files.append(path)
    return files


def _images(paths: NDArray[np.str_], person_ids: NDArray[np.int64], camera_ids: NDArray[np.int64]) -> list[_Image]:
    return [_Image(Path(path), *labels) for path, *labels in zip(paths, person_ids, camera_ids, strict=True)]


def _average_precision(queries: Embeddings, gallery: Gallery) -> NDArray[np.float64]:
    """AP over all gallery images, those of the query's own camera included as in the list; NaN = unknown."""
    ids, cameras = labels_of(queries.paths)
    precision, has_id = np.full(len(ids), np.nan), ids > 0
    gallery_ids = np.where(gallery.person_ids == UNKNOWN_ID, 0, gallery.person_ids)
    try:
        precision[has_id] = evaluate_ranking(
            queries.vectors[has_id], gallery.embeddings.vectors, ids[has_id], gallery_ids, cameras[has_id],
            gallery.camera_ids, camera_rule=False,
        ).average_precision  # fmt: skip
    except ReidError:  # no query has a match
        return precision
    return precision
