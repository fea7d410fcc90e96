import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.protocols import EvaluationData, evaluate
from evaluation.query_expansion import QueryExpansion
from evaluation.report.queries import COLUMNS, QUERIES, read_queries, write_queries
from evaluation.report.write import write_outputs
from evaluation.rerank import Reciprocal
from evaluation.results import Entry, EvaluationProtocol, Report
from tests.evaluation.support import Image, images, result_of
from tests.support import largest_file, silent_log
from utils.errors import ReidError

PLAIN = EvaluationProtocol()
ROWS = [
    PLAIN,
    EvaluationProtocol("centroid"),
    EvaluationProtocol(query_scale=4),
    EvaluationProtocol(rerank=Reciprocal(5, 2, 0.3), expansion=QueryExpansion(2, 1.0)),
]


def test_a_test_writes_a_line_per_row_and_query(data: EvaluationData, tmp_path: Path) -> None:
    lonely = replace(data, query=[*data.query[:11], replace(data.query[11], person_id=77)])
    report = Report("toy", "a.pth", evaluate(lonely.vectors, lonely.query, lonely.gallery, ROWS))
    write_outputs(tmp_path / "out", report, lonely, PLAIN, None)
    with (tmp_path / "out" / QUERIES).open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert tuple(lines[0]) == COLUMNS
    assert len(lines) == len(ROWS) * 12
    names = {(line["protocol"], line["query_scale"], line["gallery_scale"]) for line in lines}
    assert names == {
        ("instance", "1", "1"),
        ("centroid", "1", "1"),
        ("instance", "4", "1"),
        ("instance +QE2 +rerank", "1", "1"),
    }
    for entry, first in zip(report.entries, range(0, 48, 12), strict=True):
        own, result = lines[first : first + 12], entry.result
        assert [line["query"] for line in own] == [str(image.path) for image in lonely.query]
        assert [int(line["identity"]) for line in own] == [image.person_id for image in lonely.query]
        assert [int(line["camera"]) for line in own] == [image.camera_id for image in lonely.query]
        assert [int(line["num_matches"]) for line in own] == result.num_matches.tolist()
        counted = [line for line in own if line["num_matches"] != "0"]
        assert len(counted) == result.num_valid_queries < 12
        assert np.mean([float(line["AP"]) for line in counted]) == pytest.approx(result.mAP, abs=1e-15)
        assert np.mean([float(line["INP"]) for line in counted]) == pytest.approx(result.mINP, abs=1e-15)
        assert np.mean([int(line["first_match_rank"]) <= 5 for line in counted]) == pytest.approx(result.cmc[5])
        last = own[-1]  # a person whom the gallery does not show
        assert [last[name] for name in ("AP", "first_match_rank", "INP", "num_matches")] == ["", "", "", "0"]


def test_what_was_written_is_read_to_the_last_bit(data: EvaluationData, tmp_path: Path) -> None:
    entries = evaluate(data.vectors, data.query, data.gallery, ROWS)
    write_queries(tmp_path / QUERIES, entries, data.query)
    order = sorted(range(12), key=lambda row: str(data.query[row].path))
    for entry in entries:
        queries, result = read_queries(tmp_path / QUERIES, entry.protocol), entry.result
        assert queries.paths == [str(data.query[row].path) for row in order]
        np.testing.assert_array_equal(queries.identities, [data.query[row].person_id for row in order])
        np.testing.assert_array_equal(queries.cameras, [data.query[row].camera_id for row in order])
        for name in ("average_precision", "first_match_rank", "inverse_negative_penalty", "num_matches"):
            np.testing.assert_array_equal(getattr(queries, name), getattr(result, name)[order])


def test_names_that_spreadsheets_and_encodings_do_not_take(tmp_path: Path) -> None:
    odd = [Image(Path(name), 1, 1) for name in ("=1+1.jpg", "a,b\n.jpg", "caf\udce9.jpg", "한글.jpg")]
    with silent_log():
        write_queries(tmp_path / QUERIES, [Entry(PLAIN, result_of([1, 2, 3, 4]))], odd)
        assert b"'=1+1.jpg" in (tmp_path / QUERIES).read_bytes()
        assert set(read_queries(tmp_path / QUERIES, PLAIN).paths) == {str(image.path) for image in odd}


def test_queries_are_told_apart_wherever_the_data_set_lies(tmp_path: Path) -> None:
    entry = Entry(PLAIN, result_of([1, 2, 3, 4]))
    keys = []
    for number, folder in enumerate(("/data/toy/query", "toy/query", "C:\\data\\toy")):
        path = tmp_path / str(number)
        write_queries(path, [entry], images(2, 2, folder))
        keys.append(read_queries(path, PLAIN).keys())
    assert keys[0] == keys[1] == keys[2]
    assert keys[0][1] == ("0001_c2.jpg", 1, 2)
    nested = [Image(Path(f"/data/{camera}/a.jpg"), 1, camera) for camera in (2, 1)]
    write_queries(tmp_path / "nested", [Entry(PLAIN, result_of([3, 0]))], nested)
    queries = read_queries(tmp_path / "nested", PLAIN)
    assert queries.keys() == [("1/a.jpg", 1, 1), ("2/a.jpg", 1, 2)]
    assert queries.first_match_rank.tolist() == [0, 3]


def test_the_file_is_whole_or_absent(tmp_path: Path) -> None:
    queries = images(100, 4)
    with largest_file(4096), pytest.raises(OSError, match=r"File too large.*queries\.csv"):
        write_queries(tmp_path / QUERIES, [Entry(PLAIN, result_of([1] * 400))], queries)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_or_row(tmp_path: Path) -> None:
    with pytest.raises(ReidError, match=r"queries\.csv must lie beside its report.*test the weights again"):
        read_queries(tmp_path / QUERIES, PLAIN)
    write_queries(tmp_path / QUERIES, [Entry(PLAIN, result_of([1]))], images(1, 1))
    with pytest.raises(ReidError, match=r"must have lines of centroid x1 -> x1, got none"):
        read_queries(tmp_path / QUERIES, EvaluationProtocol("centroid"))


GOOD = "instance,1,1,a.jpg,1,2,0.5,2,0.5,1"


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("instance,1,1,a.jpg,1,2,0.5,2,0.5", "line 3 must have 10 cells, got 9"),
        ("instance,1,1,a.jpg,x,2,0.5,2,0.5,1", "invalid literal"),
        ("instance,1,1,a.jpg,1,2,nan,2,0.5,1", "line 3 must hold the figures of 1 matches"),
        ("instance,1,1,a.jpg,1,2,1.5,2,0.5,1", "line 3 must hold the figures of 1 matches"),
        ("instance,1,1,a.jpg,1,2,,,,1", "line 3 must hold the figures of 1 matches"),
        ("instance,1,1,a.jpg,1,2,0.5,2,0.5,0", "line 3 must hold the figures of 0 matches"),
        (f"instance,1,1,a.jpg,{'9' * 30},2,0.5,2,0.5,1", "damaged"),
        ('instance,1,1,"a.jpg', "unexpected end of data"),
    ],
)
def test_a_damaged_line(tmp_path: Path, line: str, rule: str) -> None:
    (tmp_path / QUERIES).write_text("\n".join([",".join(COLUMNS), GOOD, line]))
    with pytest.raises(ReidError, match=rf"{rule}.*test the weights again"):
        read_queries(tmp_path / QUERIES, PLAIN)


def test_another_table(tmp_path: Path) -> None:
    (tmp_path / QUERIES).write_text("query,AP\n")
    with pytest.raises(ReidError, match=r"queries\.csv is damaged \(its first line must be protocol,"):
        read_queries(tmp_path / QUERIES, PLAIN)
