"""PRW (Zheng et al. 2017, "Person Re-identification in the Wild"): what to cut out of its frames."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from datasets.convert.crops import GALLERY, QUERY, TRAIN, Crop, Frame, clip_box
from datasets.convert.prw_files import (
    AnnotatedFrame,
    Person,
    check_release,
    frame_file,
    read_frame,
    read_frame_names,
    read_queries,
)
from datasets.sample import DISTRACTOR_ID
from utils.errors import ReidError
from utils.processes import each

logger = logging.getLogger(__name__)

PUBLISHED = {
    "frames": 11816,
    "boxes": 43110,
    "boxes with an identity": 34304,
    "identities": 932,
    "training identities": 482,
    "test identities": 450,
    "queries": 2057,
}


def plan_prw(raw: Path, *, keep_ambiguous: bool = False, workers: int = 1) -> list[Frame]:
    """Read the annotations of the release.

    Training images are the boxes of the training frames whose identity is in no test frame and no query. The gallery
    holds every box with an identity in the test frames. Queries are the boxes of ``query_info.txt``.

    Args:
        raw: the folder of the release.
        keep_ambiguous: add people without an identity (-2) in test frames to the gallery as distractors (0000).
        workers: processes.

    Returns:
        The frames in the order of their names.

    Raises:
        ReidError: if ``raw`` is not such a release, or if a file is missing or damaged.
    """
    check_release(raw)
    train, test = (read_frame_names(raw / f"frame_{part}.mat", f"img_index_{part}") for part in ("train", "test"))
    queries = read_queries(raw / "query_info.txt")
    frames = _read_frames(raw, sorted({*train, *test, *queries}), workers)
    boxes: dict[str, Mapping[str, Sequence[Person]]] = {
        TRAIN: {name: frames[name].people for name in train},
        QUERY: queries,
        GALLERY: {name: frames[name].people for name in test},
    }
    ids = {split: _identities(members.values()) for split, members in boxes.items()}
    test_ids = ids[QUERY] | ids[GALLERY]
    _compare_with_published(boxes, ids)
    if shared := sorted(ids[TRAIN] & test_ids):
        examples = ", ".join(map(str, shared[:5]))
        message = "%d identities of training frames are in the test too, not trained on: %s"
        logger.warning(message, len(shared), examples)
    distractors = {DISTRACTOR_ID} if keep_ambiguous else set()
    people = {TRAIN: ids[TRAIN] - test_ids, QUERY: test_ids, GALLERY: test_ids | distractors}
    return [
        Frame(
            frame_file(raw, name),
            *frame.size,
            tuple(
                crop
                for split, members in boxes.items()
                for crop in _crops(name, split, frame.size, members.get(name, ()), people[split])
            ),
        )
        for name, frame in frames.items()
    ]


def _read_frames(raw: Path, names: Sequence[str], workers: int) -> dict[str, AnnotatedFrame]:
    outcomes = each(partial(read_frame, raw=raw), names, workers, "read annotations", "frame")
    if faults := [fault for fault in outcomes if isinstance(fault, str)]:
        raise ReidError(
            f"every listed frame must have its image and annotation, but {len(faults)} of {len(names)} do not: "
            f"{'; '.join(faults[:3])}; unpack the release again"
        )
    return {name: frame for name, frame in zip(names, outcomes, strict=True) if isinstance(frame, AnnotatedFrame)}


def _identities(groups: Iterable[Iterable[Person]]) -> set[int]:
    return {person.person_id for people in groups for person in people} - {DISTRACTOR_ID}


def _crops(name: str, split: str, size: tuple[int, int], people: Sequence[Person], ids: set[int]) -> Iterable[Crop]:
    for person in people:
        if person.person_id not in ids:
            continue
        if box := clip_box(person.corner, person.size, size):
            file = f"{person.person_id:04d}_{name}_{person.row:02d}.jpg"
            yield Crop(split, person.person_id, file, box)
        else:
            what = "has no area in" if min(person.size) <= 0 else "lies outside of"
            logger.warning("identity %d %s frame %s and is left out", person.person_id, what, name)


def _compare_with_published(boxes: Mapping[str, Mapping[str, Sequence[Person]]], ids: Mapping[str, set[int]]) -> None:
    people = [person for members in ({**boxes[TRAIN], **boxes[GALLERY]}).values() for person in members]
    test = ids[QUERY] | ids[GALLERY]
    counts = {
        "frames": len({*boxes[TRAIN], *boxes[GALLERY]}),
        "boxes": len(people),
        "boxes with an identity": sum(person.person_id != DISTRACTOR_ID for person in people),
        "identities": len(ids[TRAIN] | test),
        "training identities": len(ids[TRAIN] - test),
        "test identities": len(test),
        "queries": sum(map(len, boxes[QUERY].values())),
    }
    logger.info("PRW: %s", ", ".join(f"{count} {name}" for name, count in counts.items()))
    if unlike := [
        f"{count} {name}, not {PUBLISHED[name]}" for name, count in counts.items() if count != PUBLISHED[name]
    ]:
        logger.warning("this is not the published PRW: it has %s", "; ".join(unlike))
