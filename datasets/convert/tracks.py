"""Cut people out of footage by the boxes of a detector, a tracker or an annotation: a folder for each track."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from datasets.convert.crops import Box, Crop, begin_folder, finish_folder, write_crop
from datasets.convert.footage import Footage, Load, Source, open_footage
from datasets.convert.mot_rows import NOBODY, RowRules, read_rows
from datasets.sample import DISTRACTOR_ID
from utils import blocks
from utils.errors import ReidError

logger = logging.getLogger(__name__)

IDS_PER_SEQUENCE = 1_000_000  # of several: identity = place of the sequence * this + id of the track


@dataclass(frozen=True)
class TrackRules:
    """Which people are cut out.

    Attributes:
        rows: which boxes count.
        min_height: smallest height of a person within the frame, in pixels.
        min_width: smallest width, likewise.
        camera: number of the camera; further sequences have the next ones.
    """

    rows: RowRules
    min_height: int = 48
    min_width: int = 16
    camera: int = 1


class TrackedSequence(NamedTuple):
    """What to cut out of one sequence; N boxes in the order of their frames.

    Attributes:
        footage: its frames.
        place: among the sequences, from 1 on.
        camera: its number.
        frames: (N,) int64.
        person_ids: (N,) int64; 0 = a detection without identity.
        boxes: (N, 4) int64, whole pixels within the frame: left, top, right, bottom.
        digest: of the file of boxes.
    """

    footage: Footage
    place: int
    camera: int
    frames: NDArray[np.int64]
    person_ids: NDArray[np.int64]
    boxes: NDArray[np.int64]
    digest: str

    def crops(self) -> Iterator[tuple[int, list[Crop]]]:
        """The numbers of the frames, ascending, and the crops of each."""
        numbers, starts = np.unique(self.frames, return_index=True)
        for frame, rows in zip(numbers.tolist(), np.split(np.arange(len(self.frames)), starts[1:]), strict=True):
            people = zip(self.person_ids[rows].tolist(), self.boxes[rows].tolist(), strict=True)
            yield (
                frame,
                [
                    Crop(f"{person:04d}", person, self._name(person, frame, row), Box(*box))
                    for row, (person, box) in enumerate(people, start=1)
                ],
            )

    def _name(self, person: int, frame: int, row: int) -> str:
        return f"{person:04d}_c{self.camera}s{self.place}_{frame:06d}_{row:02d}.jpg"


def plan_tracks(sources: Sequence[Source], rules: TrackRules) -> list[TrackedSequence]:
    """Read all boxes.

    The identity of a track is its id, plus one if the file has an id 0; of several sequences,
    ``place * IDS_PER_SEQUENCE + id``, because people are not matched across them. Detections without identity (-1)
    are distractors, 0.

    Args:
        sources: one or more, as :func:`datasets.convert.footage.find_sources` gives them.
        rules: which people to take.

    Raises:
        ReidError: if a file cannot be read, boxes and footage do not belong together, or no box is left.
    """
    sequences = [
        _plan(source, place, rules, several=len(sources) > 1) for place, source in enumerate(sources, start=1)
    ]
    if not any(len(sequence.frames) for sequence in sequences):
        raise ReidError(
            f"BOXES must have people to cut out, but none of {sources[0].boxes}{' and others' * (len(sources) > 1)} "
            "is left; lower --min-height, --min-width, --min-confidence, --min-visibility or --every; see --classes"
        )
    return sequences


def _plan(source: Source, place: int, rules: TrackRules, *, several: bool) -> TrackedSequence:
    rows = read_rows(source.boxes, rules.rows)
    footage = open_footage(source.footage)
    height, width = footage.size
    boxes = np.floor(rows.corners + 0.5).clip(0, (width, height, width, height)).astype(np.int64)
    large = (boxes[:, 2] - boxes[:, 0] >= rules.min_width) & (boxes[:, 3] - boxes[:, 1] >= rules.min_height)
    frames, ids, boxes = rows.frames[large], rows.ids[large], boxes[large]
    footage.check(np.unique(frames), rows.last_frame)
    shift = place * IDS_PER_SEQUENCE if several else int((rows.ids == 0).any())
    if several and (ids >= IDS_PER_SEQUENCE).any():
        raise ReidError(
            f"ids of several sequences must be less than {IDS_PER_SEQUENCE}, {source.boxes} has {ids.max()}"
        )
    person_ids = np.where(ids == NOBODY, DISTRACTOR_ID, ids + shift)
    camera = rules.camera + place - 1
    logger.info(
        "%s: camera %d, %d of %d boxes, %d tracks%s",
        *(source.name, camera, len(ids), rows.total, len(np.unique(ids[ids != NOBODY]))),
        f"; identity = id + {shift}" if shift else "",
    )
    return TrackedSequence(footage, place, camera, frames, person_ids, boxes, rows.digest)


def write_tracks(
    sequences: Sequence[TrackedSequence],
    out: Path,
    mark: Mapping[str, object],
    *,
    quality: int = 95,
    workers: int = 1,
) -> None:
    """Write all crops as JPEG files ``0007/0007_c1s1_000451_03.jpg``: identity, camera, sequence, frame, place in it.

    ``out`` appears when it is complete; until then the files are in ``{out}.unfinished``, where a repeated command
    goes on. The frames that wait for a thread take no more than the memory budget.

    Args:
        sequences: of :func:`plan_tracks`.
        out: the folder to make.
        mark: values that identify this conversion; the folder stores them.
        quality: of the JPEG files, 1 to 100.
        workers: threads that cut and encode, beside the one that reads a video.

    Raises:
        ReidError: if another command made the folder, or a frame cannot be read.
    """
    out = out.resolve()  # a link stays, and its target is made
    folder = begin_folder(out, mark)
    waiting: list[Future[None]] = []
    number = sum(len(np.unique(sequence.frames)) for sequence in sequences)
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=number, desc="cut out people", unit="frame", disable=None) as bar,
    ):
        try:
            for sequence in sequences:
                height, width = sequence.footage.size
                most = max(1, min(2 * workers, blocks.MEMORY_BUDGET // (3 * height * width)))
                for load, crops in _unfinished(sequence, folder, bar):
                    while len(waiting) >= most:
                        waiting.pop(0).result()
                        bar.update()
                    waiting.append(pool.submit(_write, load, crops, folder, quality))
            for future in waiting:
                future.result()
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)
    finish_folder(folder, out)
    people = np.concatenate([sequence.person_ids for sequence in sequences])
    tracks = len(np.unique(people[people != DISTRACTOR_ID]))
    logger.info("%d crops of %d tracks are in %s", len(people), tracks, out)


def _unfinished(sequence: TrackedSequence, folder: Path, bar: tqdm) -> Iterator[tuple[Load, list[Crop]]]:
    """Frames of which crops are absent, with all of their crops, which are made one frame at a time."""
    absent = [
        frame
        for frame, crops in sequence.crops()
        if not all((folder / crop.split / crop.name).exists() for crop in crops)
    ]
    bar.update(len(np.unique(sequence.frames)) - len(absent))
    rest = frozenset(absent)
    plan = (crops for frame, crops in sequence.crops() if frame in rest)
    yield from zip(sequence.footage.read(np.array(absent, np.int64)), plan, strict=True)


def _write(load: Load, crops: Sequence[Crop], folder: Path, quality: int) -> None:
    pixels = load()
    for crop in crops:
        if not (folder / crop.split / crop.name).exists():
            write_crop(pixels, crop, folder, quality)
