import argparse
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import unfinished
from inference.shares import Share, parse_share
from inference.unfinished import FOLDER, ShareFiles, begin
from utils.errors import ReidError


@given(st.integers(0, 200), st.integers(1, 40))
def test_shares_are_all_rows_once_and_nearly_equal(count: int, total: int) -> None:
    parts = [range(*Share(number, total).rows(count)) for number in range(1, total + 1)]
    assert [row for part in parts for row in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_share_is_split_between_processes() -> None:
    assert Share().within({}) == Share(1, 1)
    within = [Share(m, 2).within({"RANK": str(rank), "WORLD_SIZE": "3"}) for m in (1, 2) for rank in range(3)]
    assert within == [Share(number, 6) for number in range(1, 7)]


def test_shares_are_parsed() -> None:
    assert parse_share("2/4") == Share(2, 4)
    for text in ("0/4", "5/4", "1", "1/0", "a/b", "-1/2"):
        with pytest.raises(argparse.ArgumentTypeError, match="must be I/N with I from 1 to N"):
            parse_share(text)


def test_rows_are_done_once_they_are_on_the_disk(tmp_path: Path) -> None:
    begin(tmp_path, {"rows": 4})
    files = ShareFiles(tmp_path, Share(1, 2), 4, 3)
    assert not files.complete
    files.create()
    assert files.rows_to_do().tolist() == [0, 1, 2, 3]
    files.put(np.array([2, 0]), np.array([[1, 2, 3], [4, 5, 6]], np.float32))
    assert ShareFiles(tmp_path, Share(1, 2), 4, 3).rows_to_do().tolist() == [0, 1, 2, 3]  # a crash now loses both
    files.commit()
    again = ShareFiles(tmp_path, Share(1, 2), 4, 3)
    again.create()
    assert again.rows_to_do().tolist() == [1, 3]
    again.finish()
    assert again.complete
    assert again.rows_to_do().tolist() == [1, 3]  # unreadable, so tried again
    rows, vectors = again.done()
    assert rows.tolist() == [0, 2]
    assert vectors[rows].tolist() == [[4, 5, 6], [1, 2, 3]]


def test_work_is_committed_from_time_to_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "_COMMIT_SECONDS", -1.0)
    begin(tmp_path, {})
    files = ShareFiles(tmp_path, Share(), 2, 1)
    files.create()
    files.put(np.array([1]), np.ones((1, 1), np.float32))
    assert files.rows_to_do().tolist() == [0]


def test_an_empty_share_is_complete(tmp_path: Path) -> None:
    begin(tmp_path, {})
    files = ShareFiles(tmp_path, Share(1, 9), 0, 3)
    files.create()
    assert files.complete
    assert len(files.done()[0]) == 0


def test_another_job_is_refused(tmp_path: Path) -> None:
    assert not begin(tmp_path, {"rows": 4, "size": (1, 2)})
    assert begin(tmp_path, {"size": (1, 2), "rows": 4})
    with pytest.raises(ReidError, match=r"cannot be continued: rows was 4 and is 5; finish it, delete this folder"):
        begin(tmp_path, {"rows": 5, "size": (1, 2)})


def test_damaged_files_are_named(tmp_path: Path) -> None:
    begin(tmp_path, {})
    files = ShareFiles(tmp_path, Share(), 4, 3)
    files.create()
    with pytest.raises(ReidError, match=r"1-of-1.marks.npy must have shape \(5,\), got \(4,\); delete"):
        ShareFiles(tmp_path, Share(), 5, 3).rows_to_do()
    (tmp_path / FOLDER / "1-of-1.marks.npy").write_text("text")
    with pytest.raises(ReidError, match=r"1-of-1.marks.npy must be part of unfinished work, but is damaged"):
        files.rows_to_do()
