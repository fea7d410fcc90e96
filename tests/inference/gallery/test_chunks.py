import argparse
import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.gallery import chunks
from inference.gallery.chunks import FOLDER, EmbeddingJob, Shard, parse_shard
from utils.errors import ReidError

DIM = 3
Batches = Iterator[tuple[np.ndarray, np.ndarray]]


def vectors_of(rows: np.ndarray) -> np.ndarray:
    """A vector that tells its row."""
    return np.repeat(rows[:, None], DIM, axis=1).astype(np.float32)


def stream(
    rows: np.ndarray, batch: int = 2, unreadable: tuple[int, ...] = (), stop_after: int | None = None
) -> Batches:
    """As an extractor gives batches: without unreadable images, none that is empty, in order."""
    for number, start in enumerate(range(0, len(rows), batch)):
        if number == stop_after:
            raise KeyboardInterrupt
        good = np.array([row for row in rows[start : start + batch] if row not in unreadable], np.int64)
        if len(good):
            yield good, vectors_of(good)


def content(job: EmbeddingJob) -> tuple[list[int], list[list[float]]]:
    parts = list(job.vectors())
    return [row for rows, _ in parts for row in rows.tolist()], [row for _, part in parts for row in part.tolist()]


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_LENGTH", 4)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 7), st.sets(st.integers(0, 60)), st.randoms())
@settings(max_examples=50, deadline=None)
def test_shards_in_any_order_make_the_whole(
    tmp_path_factory: pytest.TempPathFactory, count: int, total: int, batch: int, bad: set[int], random: object
) -> None:
    folder = tmp_path_factory.mktemp("job")
    numbers = list(range(1, total + 1))
    random.shuffle(numbers)  # type: ignore[attr-defined]
    tried: list[int] = []
    for number in numbers:
        job = EmbeddingJob(folder, {"rows": count}, count, total)
        rows = job.rows_to_do(Shard(number, total))
        tried += rows.tolist()
        job.store(rows, stream(rows, batch, tuple(bad)))
    assert sorted(tried) == list(range(count))  # each image once
    assert job.num_missing() == 0
    good = [row for row in range(count) if row not in bad]
    assert content(job) == (good, vectors_of(np.array(good, np.int64)).tolist())


def test_a_shard_is_split_between_processes() -> None:
    assert Shard().within({}) == Shard(1, 1)
    within = [Shard(m, 2).within({"RANK": str(rank), "WORLD_SIZE": "3"}) for m in (1, 2) for rank in range(3)]
    assert within == [Shard(number, 6) for number in range(1, 7)]
    for rank, processes in (("x", "2"), ("2", "2"), ("-1", "2"), ("0", "0"), ("1", "")):
        with pytest.raises(ReidError, match="RANK and WORLD_SIZE must be as torchrun sets them, got"):
            Shard().within({"RANK": rank, "WORLD_SIZE": processes})


def test_shards_are_parsed() -> None:
    assert parse_shard("2/4") == Shard(2, 4)
    for text in ("0/4", "5/4", "1", "1/0", "a/b", "-1/2", "1/" + "9" * 5000):
        with pytest.raises(argparse.ArgumentTypeError, match="must be I/N with I from 1 to N"):
            parse_shard(text)


def test_few_images_are_enough_for_many_shards(tmp_path: Path) -> None:
    job = EmbeddingJob(tmp_path, {}, 10, 4)
    assert [len(job.rows_to_do(Shard(number, 4))) for number in range(1, 5)] == [3, 3, 3, 1]
    assert len(EmbeddingJob(tmp_path, {}, 10).rows_to_do(Shard(1, 10**9))) == 3  # the length of the job counts


@pytest.mark.usefixtures("_short")
def test_what_exists_is_done(tmp_path: Path) -> None:
    job = EmbeddingJob(tmp_path, {"rows": 10}, 10)
    rows = job.rows_to_do(Shard())
    with pytest.raises(KeyboardInterrupt):
        job.store(rows, stream(rows, stop_after=4))
    names = sorted(path.name for path in (tmp_path / FOLDER).glob("*.npz"))
    assert names == ["000000000.npz"]  # of the chunk at work nothing
    again = EmbeddingJob(tmp_path, {"rows": 10}, 10)
    assert again.num_missing() == 2
    assert again.rows_to_do(Shard()).tolist() == [4, 5, 6, 7, 8, 9]
    assert again.rows_to_do(Shard(3, 3)).tolist() == [8, 9]  # another division of the work goes on with it
    before = (tmp_path / FOLDER / names[0]).stat().st_mtime_ns
    rows = again.rows_to_do(Shard())
    again.store(rows, stream(rows))
    assert content(again) == (list(range(10)), vectors_of(np.arange(10)).tolist())
    assert (tmp_path / FOLDER / names[0]).stat().st_mtime_ns == before


@pytest.mark.usefixtures("_short")
def test_unreadable_images_are_tried_again(tmp_path: Path) -> None:
    job = EmbeddingJob(tmp_path, {}, 10)
    rows = job.rows_to_do(Shard())
    job.store(rows, stream(rows, unreadable=(4, 5, 6, 7, 9)))  # all of a chunk among them
    assert job.num_missing() == 0
    assert content(job)[0] == [0, 1, 2, 3, 8]
    rows = job.rows_to_do(Shard())
    assert rows.tolist() == [4, 5, 6, 7, 8, 9]
    job.store(rows, stream(rows, unreadable=(6,)))
    assert content(job)[0] == [0, 1, 2, 3, 4, 5, 7, 8, 9]


def test_another_job_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        EmbeddingJob(tmp_path, {"rows": 4, "size": (1, 2)}, 4)
        assert "going on" not in caplog.text
        EmbeddingJob(tmp_path, {"size": (1, 2), "rows": 4}, 4)
    assert "going on with unfinished work" in caplog.text
    with pytest.raises(ReidError, match=r"cannot be continued: rows was 4 and is 5; finish it, delete this folder"):
        EmbeddingJob(tmp_path, {"rows": 5, "size": (1, 2)}, 5)


@pytest.mark.usefixtures("_short")
def test_chunks_of_another_job_are_no_chunks_of_this(tmp_path: Path) -> None:
    """Such as a process writes that is still at work when another has finished the job."""
    old = EmbeddingJob(tmp_path, {"model": "old"}, 4)
    old.store(np.arange(4), stream(np.arange(4)))
    (tmp_path / FOLDER / "job.json").unlink()
    job = EmbeddingJob(tmp_path, {"model": "new"}, 4)
    assert job.num_missing() == 1
    assert job.rows_to_do(Shard()).tolist() == [0, 1, 2, 3]


def test_work_that_is_gone_is_an_error(tmp_path: Path) -> None:
    job = EmbeddingJob(tmp_path, {}, 4)
    job.remove()
    assert not (tmp_path / FOLDER).exists()
    with pytest.raises(ReidError, match="another process has finished or removed this work"):
        job.store(np.arange(4), stream(np.arange(4)))
    assert not (tmp_path / FOLDER).exists()


@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize("damage", [b"", b"text", b"PK\x03\x04", None])
def test_a_damaged_chunk_is_computed_again(
    tmp_path: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    job = EmbeddingJob(tmp_path, {}, 8)
    job.store(np.arange(8), stream(np.arange(8)))
    path = tmp_path / FOLDER / "000000004.npz"
    path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    assert job.rows_to_do(Shard()).tolist() == [4, 5, 6, 7]
    assert "000000004.npz is damaged" in caplog.text
    assert "embedded again" in caplog.text
    assert not path.exists()
    with pytest.raises(ReidError, match=r"000000004.npz must be a whole chunk, but is not; repeat the command"):
        content(job)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "[" * 100_000, '{"chunk_length": "x"}', '{"chunk_length": 0}'])
def test_a_damaged_job_is_named(tmp_path: Path, text: str) -> None:
    EmbeddingJob(tmp_path, {}, 4)
    (tmp_path / FOLDER / "job.json").write_text(text)
    with pytest.raises(ReidError, match=r"job.json must describe a job|cannot be continued: chunk_length is 0"):
        EmbeddingJob(tmp_path, {}, 4)


def test_the_job_is_described(tmp_path: Path) -> None:
    EmbeddingJob(tmp_path, {"model": {"sha256": "ab"}}, 4000)
    job = json.loads((tmp_path / FOLDER / "job.json").read_text())
    assert job == {"model": {"sha256": "ab"}, "chunk_length": 512}


@given(
    st.text(max_size=60) | st.sampled_from(["[" * 100_000, '{"chunk_length": 1e999}', '{"chunk_length": "4"}', "{}"])
)
@settings(max_examples=60, deadline=None)
def test_no_card_of_a_job_ends_in_anything_but_an_error_of_ours(text: str) -> None:
    with TemporaryDirectory() as folder:
        EmbeddingJob(Path(folder), {"rows": 3}, 3)
        (Path(folder) / FOLDER / "job.json").write_bytes(text.encode("utf-8", "surrogatepass"))
        with suppress(ReidError):
            EmbeddingJob(Path(folder), {"rows": 3}, 3)
