"""MOT17 and the data that share the form of its files: what to cut out of their sequences.

MOT16 and MOT17 (Milan et al. 2016, "MOT16: A Benchmark for Multi-Object Tracking"), MOT20 (Dendorfer et al. 2020),
DanceTrack (Sun et al., CVPR 2022) and SportsMOT (Cui et al., ICCV 2023): each sequence is a folder with seqinfo.ini,
frames and gt/gt.txt.
"""

import configparser
import logging
import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.convert.crops import GALLERY, QUERY, TRAIN, Box, Crop, Frame, clip_box
from utils.errors import ReidError, one_line

logger = logging.getLogger(__name__)

DETECTORS = ("FRCNN", "DPM", "SDP")
_DETECTOR = re.compile(r"MOT17-\d+-(?P<detector>[A-Z]+)")
_NUMBER = re.compile(r"(?P<number>\d{1,6})(-[A-Z]+)?$")
_IDS_PER_SEQUENCE = 10_000  # identity = sequence * this + number of the track
_PEDESTRIAN = 1


@dataclass(frozen=True)
class Mot17Rules:
    """Which people the data set takes from the sequences.

    Attributes:
        detector: which of the three copies of each sequence to read (same frames, same people).
        test_sequences: the sequences to test on; empty = the last third, in the order of their numbers.
        min_visibility: smallest visibility of a person, 0 to 1.
        min_height: smallest height of a person within the frame, in pixels.
        every: n, to take the first frame and each n-th after it.
    """

    detector: str = DETECTORS[0]
    test_sequences: tuple[int, ...] = ()
    min_visibility: float = 0.3
    min_height: int = 64
    every: int = 10


class VideoSequence(NamedTuple):
    """A sequence: folder of its frames, ending of their names, size in pixels, and the boxes to cut out."""

    images: Path
    suffix: str
    height: int
    width: int
    boxes: dict[int, dict[int, Box]]  # frame -> track -> box; frames in ascending order


def plan_mot17(raw: Path, rules: Mot17Rules) -> list[Frame]:
    """Read the annotations of the release.

    An identity is a track of one sequence: people are not matched across sequences, and each has one camera.
    The first image of each test identity with two or more is its query; all others are the gallery.

    Args:
        raw: the folder of the release, or its folder ``train`` (the test has no annotations).
        rules: which people to take.

    Returns:
        The frames, by sequence and number.

    Raises:
        ReidError: if ``raw`` is not such a release, if a file is missing or damaged, or if the split leaves no images
            for training or test.
    """
    folders = _find_sequences(raw, rules.detector)
    test = _test_sequences(sorted(folders), rules.test_sequences)
    texts = [
        ", ".join(f"{number} ({folders[number].name})" for number in sorted(part))
        for part in (folders.keys() - test, test)
    ]
    logger.info("train: sequences %s; test: sequences %s", *texts)
    sequences = {number: _read_sequence(folder, rules) for number, folder in sorted(folders.items())}
    if not _suffices(sequences, test):
        raise _too_few(folders, test, rules)
    frames = list[Frame]()
    for number, sequence in sequences.items():
        frames += _plan_sequence(number, sequence, is_test=number in test)
    return frames


def _suffices(sequences: Mapping[int, VideoSequence], test: Set[int], every: int = 1) -> bool:
    """Whether every n-th of their frames leaves an image to train on, and two images of a test person."""
    tracks = {
        number: Counter(
            track for frame, people in sequence.boxes.items() if (frame - 1) % every == 0 for track in people
        )
        for number, sequence in sequences.items()
    }
    return any(tracks[number] for number in tracks.keys() - test) and any(
        max(tracks[number].values(), default=0) > 1 for number in test
    )


def _too_few(folders: Mapping[int, Path], test: Set[int], rules: Mot17Rules) -> ReidError:
    """The error of rules that leave too few images, with those that would do."""
    all_frames = replace(rules, every=1)
    sequences = {number: _read_sequence(folder, all_frames) for number, folder in sorted(folders.items())}
    smaller = next((n for n in range(rules.every - 1, 0, -1) if _suffices(sequences, test, n)), None)
    lengths = ", ".join(f"{number} has {len(_frames(sequence))}" for number, sequence in sequences.items())
    return ReidError(
        f"--every {rules.every} must leave an image to train on and two images of a test identity, but does not: "
        f"sequence {lengths} frames; "
        + (f"set --every to {smaller} or less" if smaller else "lower --min-visibility or --min-height")
    )


def _find_sequences(raw: Path, detector: str) -> dict[int, Path]:
    """The folders by number: that at the end of the name, or the place among them where numbers repeat or lack."""
    top = raw / "train" if (raw / "train").is_dir() else raw
    folders = [
        folder
        for folder in (sorted(top.iterdir()) if top.is_dir() else ())
        if (folder / "gt" / "gt.txt").exists() or (folder / "seqinfo.ini").exists()
    ]
    copies = {folder: match["detector"] for folder in folders if (match := _DETECTOR.fullmatch(folder.name))}
    folders = [folder for folder in folders if copies.get(folder, detector) == detector]
    if not folders:
        raise ReidError(
            f"RAW must be the folder of a release with sequences such as train/MOT17-02-{detector}, each with "
            f"seqinfo.ini and gt/gt.txt, but {raw} has none; see --detector"
        )
    numbers = [int(match["number"]) for folder in folders if (match := _NUMBER.search(folder.name))]
    if len(set(numbers)) < len(folders):
        numbers = list(range(1, len(folders) + 1))
    return dict(zip(numbers, folders, strict=True))


def _test_sequences(numbers: list[int], option: tuple[int, ...]) -> set[int]:
    if len(numbers) < 2:
        raise ReidError(f"there must be two sequences or more, for training and test, but there is only {numbers[0]}")
    test = set(option) or set(numbers[-max(1, len(numbers) // 3) :])
    if not test < set(numbers):
        raise ReidError(
            f"--test-sequences must be some of {', '.join(map(str, numbers))} and leave one to train on, "
            f"got {', '.join(map(str, sorted(test)))}"
        )
    return test


def _read_sequence(folder: Path, rules: Mot17Rules) -> VideoSequence:
    info = configparser.ConfigParser()
    path = folder / "seqinfo.ini"
    try:
        info.read_string(_regular(path).read_text(encoding="utf-8-sig"))
        section = info["Sequence"]
        height, width = int(section["imHeight"]), int(section["imWidth"])
        images, suffix = folder / section["imDir"], section["imExt"]
    except (OSError, KeyError, ValueError, configparser.Error) as error:
        raise ReidError(
            f"{path} must tell imDir, imExt, imHeight and imWidth, but: {one_line(error)}; unpack the release again"
        ) from error
    return VideoSequence(images, suffix, height, width, _read_boxes(folder / "gt" / "gt.txt", (height, width), rules))


def _regular(path: Path) -> Path:
    """The path of a file; a pipe would be waited for."""
    if not path.is_file():
        raise FileNotFoundError("no such file")
    return path


def _frames(sequence: VideoSequence) -> dict[int, str]:
    """The names of frames by number; releases differ in the number of digits."""
    names = os.listdir(sequence.images) if sequence.images.is_dir() else []  # noqa: PTH208 (names only)
    stems = {name.removesuffix(sequence.suffix): name for name in names if name.endswith(sequence.suffix)}
    return {int(stem): name for stem, name in stems.items() if stem.isdecimal()}


def _read_boxes(path: Path, size: tuple[int, int], rules: Mot17Rules) -> dict[int, dict[int, Box]]:
    rows = _read_rows(path)
    frame, active, kind, visibility = (rows[:, column] for column in (0, 6, 7, 8))
    keep = (active != 0) & (kind == _PEDESTRIAN) & (visibility >= rules.min_visibility)
    keep &= (frame - 1) % rules.every == 0
    boxes: dict[int, dict[int, Box]] = defaultdict(dict)
    for number, person, x, y, w, h in sorted(rows[keep, :6].tolist()):
        box = clip_box((x - 1, y - 1), (w, h), size)  # the release counts pixels from 1
        if box is None or box.y1 - box.y0 < rules.min_height:
            continue
        if int(person) in boxes[int(number)]:
            raise ReidError(f"{path} must have a person once in a frame, but has {person:g} twice in {number:g}")
        boxes[int(number)][int(person)] = box
    logger.info("%s: %d of %d boxes", path.parents[1].name, sum(map(len, boxes.values())), len(rows))
    return dict(boxes)


def _read_rows(path: Path) -> np.ndarray:
    """(N, 9) float64: frame, track, left, top, width, height, active, class, visibility."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an empty file, refused below
            rows = np.loadtxt(_regular(path), delimiter=",", ndmin=2, usecols=range(9), encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ReidError(
            f"cannot read annotation {path}: {one_line(error)}; it must have lines "
            "'frame,id,x,y,w,h,active,class,visibility'"
        ) from error
    labels = rows[:, :2]
    if not len(rows) or not np.isfinite(rows).all() or (labels % 1).any() or (labels.min(0) < (1, 0)).any():
        raise ReidError(
            f"annotation {path} must have rows of finite numbers, whole frames from 1 and whole ids from 0 on"
        )
    if labels[:, 1].max() >= _IDS_PER_SEQUENCE:
        raise ReidError(f"ids in {path} must be less than {_IDS_PER_SEQUENCE}, got {labels[:, 1].max():g}")
    return rows


def _plan_sequence(number: int, sequence: VideoSequence, *, is_test: bool) -> list[Frame]:
    counts = Counter(track for people in sequence.boxes.values() for track in people)
    waiting = {track for track, count in counts.items() if is_test and count > 1}  # for their query
    names = _frames(sequence)
    frames = list[Frame]()
    for moment, people in sequence.boxes.items():
        path = sequence.images / names.get(moment, f"{moment:06d}{sequence.suffix}")
        if moment not in names:
            raise ReidError(f"frame {path} must exist, but does not; unpack the release again")
        crops = list[Crop]()
        for track, box in people.items():
            split = TRAIN if not is_test else QUERY if track in waiting else GALLERY
            waiting.discard(track)
            person = number * _IDS_PER_SEQUENCE + track
            crops.append(Crop(split, person, f"{person:06d}_c1s{number}_{moment:06d}.jpg", box))
        frames.append(Frame(path, sequence.height, sequence.width, tuple(crops)))
    return frames
