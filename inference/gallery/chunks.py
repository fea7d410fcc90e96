"""Store the vectors of a gallery while they are computed, so that interrupted work can go on.

OUTPUT_DIR/embeddings.part/ holds job.json (what is computed, and how many images make a chunk) and for each chunk of
consecutive images one file of their vectors, written whole or not at all. What exists is done: a process that is
stopped loses the chunk at work. Chunk C belongs to shard C modulo N of N; no two write one file, so shards may run on
machines with a common folder, or their files be copied into one.
"""

import argparse
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.errors import ReidError, one_line
from utils.files import only_process, write_text, written_aside

logger = logging.getLogger(__name__)

_Part = tuple[NDArray[np.int64], NDArray[np.float32]]  # rows and their vectors

FOLDER = "embeddings.part"
CHUNK_LENGTH = 512  # images: ten seconds of a ResNet-50 on two cores, four megabytes of vectors
_JOB, _LOCK, _LENGTH = "job.json", "lock", "chunk_length"


class Shard(NamedTuple):
    """One of several parts of the work.

    Attributes:
        number: from 1 on.
        total: how many parts there are.
    """

    number: int = 1
    total: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    def within(self, environment: Mapping[str, str] = os.environ) -> "Shard":
        """The part of this part that belongs to this process among those that torchrun has started.

        Raises:
            ReidError: if RANK and WORLD_SIZE are not what torchrun sets.
        """
        texts = environment.get("RANK", "0"), environment.get("WORLD_SIZE", "1")
        if not all(text.isdecimal() for text in texts) or not 0 <= int(texts[0]) < int(texts[1]):
            raise ReidError(
                f"RANK and WORLD_SIZE must be as torchrun sets them, got {' and '.join(texts)}; unset them"
            )
        rank, processes = map(int, texts)
        return Shard((self.number - 1) * processes + rank + 1, self.total * processes)


def parse_shard(text: str) -> Shard:
    """From ``2/4``.

    Raises:
        argparse.ArgumentTypeError: if it is anything else.
    """
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"must be I/N with I from 1 to N, e.g. 1/4 to 4/4, got {text!r}")
    return Shard(int(match[1]), int(match[2]))


class EmbeddingJob:
    """The chunks of one job.

    Args:
        output: OUTPUT_DIR.
        description: everything on which the vectors depend, of JSON's types.
        num_images: N.
        num_shards: between which a new job is divided: its chunks are short enough for all of them to have work.

    Attributes:
        folder: of the unfinished work.
        num_images: N.

    Raises:
        ReidError: if the folder holds unfinished work of another job; the message names what differs.
    """

    def __init__(self, output: Path, description: Mapping[str, Any], num_images: int, num_shards: int = 1) -> None:
        self.folder, self.num_images = output / FOLDER, num_images
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / _JOB
        with self.lock():
            if path.exists():
                logger.info("going on with unfinished work in %s", self.folder)
            else:
                length = min(CHUNK_LENGTH, max(1, -(-num_images // num_shards)))
                write_text(path, json.dumps({**description, _LENGTH: length}, indent=2) + "\n")
            text = path.read_text(encoding="utf-8", errors="replace")
        self._length = _read_length(path, text, description)
        self._num_chunks = -(-num_images // self._length)
        self._digest = hashlib.sha256(text.encode()).hexdigest()

    def lock(self) -> AbstractContextManager[None]:
        """A block in which one process is at a time."""
        return only_process(self.folder / _LOCK, wait=True)

    def exists(self) -> bool:
        """Whether the work is there: another process may have finished it."""
        return (self.folder / _JOB).is_file()

    def remove(self) -> None:
        """Delete the work: the job first, because chunks without a job are ignored."""
        (self.folder / _JOB).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def rows_to_do(self, shard: Shard) -> NDArray[np.int64]:
        """(K,) ascending: the images of a shard's chunks that are absent or have unreadable images, to try again."""
        rows = [np.empty(0, np.int64)]
        for number in range(shard.number - 1, self._num_chunks, shard.total):
            arrays = self._load(number, "unreadable")
            if arrays is None or len(arrays[0]):
                rows.append(self._rows(number))
        return np.concatenate(rows)

    def store(self, rows: NDArray[np.int64], batches: Iterable[_Part]) -> None:
        """Write the vectors of a stream, a chunk as soon as the stream is past it.

        Args:
            rows: (K,) the images that the stream tries, as :meth:`rows_to_do` gives them.
            batches: rows (B,) and vectors (B, D) of those that can be read, in the order of ``rows``.

        Raises:
            ReidError: if another process has finished or removed the work.
        """
        pending: dict[int, list[_Part]] = {number: [] for number in np.unique(rows // self._length).tolist()}
        for batch_rows, vectors in batches:
            numbers = batch_rows // self._length
            for number in np.unique(numbers).tolist():
                pending[number].append((batch_rows[numbers == number], vectors[numbers == number]))
            for number in [number for number in pending if number < numbers[-1]]:
                self._write(number, pending.pop(number))
        for number, parts in pending.items():
            self._write(number, parts)

    def num_missing(self) -> int:
        """How many chunks are still to be computed."""
        return sum(self._load(number, "unreadable") is None for number in range(self._num_chunks))

    def vectors(self) -> Iterator[_Part]:
        """Rows (K,) and vectors (K, D) of one chunk after another; unreadable images have none.

        Raises:
            ReidError: if a chunk is damaged.
        """
        for number in range(self._num_chunks):
            arrays = self._load(number, "rows", "vectors")
            if arrays is None:
                raise ReidError(f"{self._path(number)} must be a whole chunk, but is not; repeat the command")
            if len(arrays[0]):
                yield arrays[0], arrays[1]

    def _write(self, number: int, parts: list[_Part]) -> None:
        if not self.exists():
            raise ReidError(f"{self.folder} must hold {_JOB}, but another process has finished or removed this work")
        rows = np.concatenate([np.empty(0, np.int64), *(part[0] for part in parts)])
        vectors = np.concatenate([part[1] for part in parts]) if parts else np.empty((0, 0), np.float32)
        unreadable = np.setdiff1d(self._rows(number), rows)
        with written_aside(self._path(number)) as aside, aside.open("wb") as file:
            np.savez(file, job=np.array(self._digest), rows=rows, vectors=vectors, unreadable=unreadable)

    def _load(self, number: int, *names: str) -> list[NDArray[Any]] | None:
        """Some arrays of a chunk's file; None where it is absent, damaged, or of another job."""
        path = self._path(number)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return [arrays[name] for name in names] if str(arrays["job"]) == self._digest else None
        except FileNotFoundError:
            return None
        except OSError:
            raise
        except Exception as error:  # a damaged file makes zipfile and NumPy raise anything
            logger.warning("%s is damaged (%s) and removed: its images are embedded again", path, one_line(error))
            path.unlink(missing_ok=True)
            return None

    def _rows(self, number: int) -> NDArray[np.int64]:
        return np.arange(number * self._length, min(self.num_images, (number + 1) * self._length))

    def _path(self, number: int) -> Path:
        return self.folder / f"{number * self._length:09d}.npz"


def _read_length(path: Path, text: str, description: Mapping[str, Any]) -> int:
    """The length of a chunk by the text of job.json, which must have the same description."""
    try:
        before = json.loads(text)
        length = int(before.pop(_LENGTH, 0))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        reason = one_line(error)[:200]
        raise ReidError(f"{path} must describe a job, but is damaged ({reason}); delete {path.parent}") from error
    now = json.loads(json.dumps(description))
    differences = [
        f"{key} was {before.get(key)} and is {now.get(key)}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]
    if differences or length < 1:
        raise ReidError(
            f"{path.parent} holds unfinished work that cannot be continued: "
            f"{'; '.join(differences) or f'{_LENGTH} is {length}'}; finish it, delete this folder, or set another "
            "OUTPUT_DIR"
        )
    return length
