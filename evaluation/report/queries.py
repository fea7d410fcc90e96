"""queries.csv: the results of each query under each row of a report, written and read back."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.results import Entry, EvaluationProtocol
from evaluation.retrieval.inputs import LabeledImage
from utils.errors import ReidError, one_line
from utils.files import written_aside
from utils.text import as_rows, from_cell

QUERIES = "queries.csv"

_TEXT: Any = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}  # names that are no UTF-8 stay

COLUMNS = (
    "protocol", "query_scale", "gallery_scale", "query", "identity", "camera", "AP", "first_match_rank", "INP",
    "num_matches",
)  # fmt: skip
"""The first three name the row of the report, as its table does; rates are in [0, 1]."""


@dataclass(frozen=True, eq=False)
class QueryResults:
    """The results of Q queries under one row of a report.

    Attributes:
        paths: of the images, Q texts.
        identities: (Q,) int64.
        cameras: (Q,) int64.
        average_precision: (Q,) float64; NaN for a query without a match.
        first_match_rank: (Q,) int64, counted from 1; 0 without a match.
        inverse_negative_penalty: (Q,) float64; NaN without a match.
        num_matches: (Q,) int64.
    """

    paths: Sequence[str]
    identities: np.ndarray
    cameras: np.ndarray
    average_precision: np.ndarray
    first_match_rank: np.ndarray
    inverse_negative_penalty: np.ndarray
    num_matches: np.ndarray

    def keys(self) -> list[tuple[str, int, int]]:
        """What tells a query from the others, wherever the data set lies: file, identity and camera.

        The folders that all files share are left out.
        """
        parts = [path.replace("\\", "/").split("/") for path in self.paths]
        folders = [names[:-1] for names in parts]
        ends = zip(min(folders), max(folders), strict=False)  # what these two share, all others share
        shared = len(list(takewhile(lambda pair: pair[0] == pair[1], ends)))
        files = ["/".join(names[shared:]) for names in parts]
        return list(zip(files, self.identities.tolist(), self.cameras.tolist(), strict=True))

    def in_order(self) -> "QueryResults":
        """The same queries, sorted by :meth:`keys`."""
        keys = self.keys()
        order = sorted(range(len(keys)), key=keys.__getitem__)
        arrays = (value[order] for name, value in vars(self).items() if name != "paths")
        return QueryResults([self.paths[row] for row in order], *arrays)


def write_queries(path: Path, entries: Sequence[Entry], queries: Sequence[LabeledImage]) -> None:
    """Write a line per row of the report and query, whole or not at all.

    Figures of a query without a match are empty. No more than one row of the report is in memory as text.

    Args:
        path: of the file.
        entries: rows of the report.
        queries: Q images, in the order of the results.
    """
    with written_aside(path) as aside, aside.open("w", **_TEXT) as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for entry in entries:
            writer.writerows(as_rows(_lines(entry, queries)))


def _lines(entry: Entry, queries: Sequence[LabeledImage]) -> Iterator[list[str]]:
    row = _row_cells(entry.protocol)
    result = entry.result
    figures = zip(
        queries,
        result.average_precision.tolist(),
        result.first_match_rank.tolist(),
        result.inverse_negative_penalty.tolist(),
        result.num_matches.tolist(),
        strict=True,
    )
    for image, precision, rank, penalty, matches in figures:
        texts = [repr(precision), str(rank), repr(penalty)] if matches else ["", "", ""]
        yield [*row, str(image.path), str(image.person_id), str(image.camera_id), *texts, str(matches)]


def read_queries(path: Path, protocol: EvaluationProtocol) -> QueryResults:
    """The results of one row of a report, in the order of :meth:`QueryResults.keys`; it is read line by line.

    Args:
        path: of a file that :func:`write_queries` has written.
        protocol: of the row.

    Raises:
        ReidError: if the file is missing or damaged, or has no such row.
    """
    try:
        with path.open(**_TEXT) as file:
            reader = csv.reader(file, strict=True)
            if tuple(next(reader, ())) != COLUMNS:
                raise ValueError(f"its first line must be {','.join(COLUMNS)}")
            results = _results(reader, _row_cells(protocol))
    except FileNotFoundError as error:
        raise ReidError(
            f"{path} must lie beside its report, with the results of each query, but does not exist; test the "
            "weights again: test.py writes both"
        ) from error
    except (ValueError, OverflowError, csv.Error) as error:
        raise ReidError(f"{path} is damaged ({one_line(error)[:200]}); test the weights again") from error
    if not results.paths:
        raise ReidError(f"{path} must have lines of {protocol.row}, got none; test the weights again")
    return results.in_order()


def _row_cells(protocol: EvaluationProtocol) -> list[str]:
    return [protocol.label, str(protocol.query_scale), str(protocol.gallery_scale)]


def _results(reader: Iterator[list[str]], row: list[str]) -> QueryResults:
    """The lines of one row.

    Raises:
        ValueError, OverflowError, csv.Error: if a line is damaged.
    """
    paths, labels, rates = list[str](), list[tuple[int, ...]](), list[tuple[float, float]]()
    for number, cells in enumerate(reader, start=2):
        if len(cells) != len(COLUMNS):
            raise ValueError(f"line {number} must have {len(COLUMNS)} cells, got {len(cells)}")
        if cells[:3] != row:
            continue
        path, identity, camera, precision, rank, penalty, matches = cells[3:]
        paths.append(from_cell(path))
        labels.append((int(identity), int(camera), int(rank or 0), int(matches)))
        rates.append((float(precision or "nan"), float(penalty or "nan")))
        _check_line(number, labels[-1][2:], rates[-1])
    identities, cameras, ranks, num_matches = np.array(labels, dtype=np.int64).reshape(-1, 4).T
    precisions, penalties = np.array(rates, dtype=np.float64).reshape(-1, 2).T
    return QueryResults(paths, identities, cameras, precisions, ranks, penalties, num_matches)


def _check_line(number: int, counts: tuple[int, ...], rates: tuple[float, float]) -> None:
    rank, matches = counts
    valid = rank >= 1 and all(0 <= rate <= 1 for rate in rates)
    empty = rank == 0 and all(np.isnan(rates))
    if not (valid if matches else empty):
        raise ValueError(f"line {number} must hold the figures of {matches} matches")
