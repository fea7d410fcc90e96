"""A contact sheet of a data set: people in rows, their images in columns."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np

from datasets.sample import DISTRACTOR_ID, ReidSplits, Sample
from utils.errors import ReidError
from utils.pictures import read_tile

HEIGHT, WIDTH = 128, 64  # of a tile, in pixels
_LABEL, _GAP, _CAPTION = 96, 8, 18  # width of a row's label, space between tiles, height of a caption
_PAPER, _UNREADABLE = 255, 170
T = TypeVar("T")


def draw_contact_sheet(splits: ReidSplits, *, people: int = 12, images: int = 10) -> np.ndarray:
    """Draw some people of the training and of the test images, evenly spread over their identities.

    Each row shows a person, with images from as many cameras as possible. The caption of an image names its camera
    and says whether it is a query. A gray tile stands for an image that cannot be read.

    Args:
        splits: the data set.
        people: rows at most.
        images: columns at most.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    train, test = _by_identity(splits.train), _by_identity(splits.test)
    queries = {sample.path for sample in splits.query}
    from_train = min(len(train), max(people // 2, people - len(test)))
    rows = [(f"train {person}", train[person]) for person in _spread(sorted(train), from_train)]
    rows += [(f"test {person}", test[person]) for person in _spread(sorted(test), people - from_train)]
    step_y, step_x = HEIGHT + _CAPTION + _GAP, WIDTH + _GAP
    columns = min(images, max((len(samples) for _, samples in rows), default=0))
    sheet = np.full((len(rows) * step_y + _GAP, _LABEL + columns * step_x + _GAP, 3), _PAPER, np.uint8)
    for row, (label, samples) in enumerate(rows):
        y = _GAP + row * step_y
        _write(sheet, label, (_GAP, y + HEIGHT // 2))
        ordered = sorted(samples, key=lambda sample: (sample.camera_id, sample.path))
        for column, sample in enumerate(_spread(ordered, images)):
            x = _LABEL + column * step_x
            sheet[y : y + HEIGHT, x : x + WIDTH] = _tile(sample)
            camera = f"c{sample.camera_id} " if splits.cameras else ""
            caption = camera + ("query" if sample.path in queries else "")
            _write(sheet, caption, (x, y + HEIGHT + _CAPTION - 5))
    return sheet


def _by_identity(samples: Sequence[Sample]) -> dict[int, list[Sample]]:
    people: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.person_id != DISTRACTOR_ID:
            people[sample.person_id].append(sample)
    return people


def _spread(items: Sequence[T], count: int) -> list[T]:
    """At most ``count`` items, the first and the last among them, at even distances."""
    rows = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[row] for row in rows]


def _tile(sample: Sample) -> np.ndarray:
    """(HEIGHT, WIDTH, 3) uint8: the image in its own proportions."""
    try:
        return read_tile(sample.path, HEIGHT, WIDTH)
    except ReidError:
        return np.full((HEIGHT, WIDTH, 3), _UNREADABLE, np.uint8)


def _write(sheet: np.ndarray, text: str, baseline: tuple[int, int]) -> None:
    cv2.putText(sheet, text, baseline, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (20, 20, 20), 1, cv2.LINE_AA)
