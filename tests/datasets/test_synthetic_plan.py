"""The plan of a synthetic data set: names, counts, and the refusal of numbers out of range."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.synthetic.people import NUM_COMBINATIONS
from datasets.synthetic.plan import SyntheticSpec, plan_images
from utils.errors import ReidError

NAME = re.compile(r"^(-1|\d{4})_c(\d)s1_(\d{6})_(\d{2})\.jpg$")


@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(2, 9),
    st.integers(2, 5),
    st.integers(0, 30),
    st.integers(0, 30),
)
def test_a_plan_has_distinct_files_and_pictures_and_matches_all_queries(
    train_ids: int, test_ids: int, cameras: int, images: int, distractors: int, junk: int
) -> None:
    plan = list(plan_images(SyntheticSpec(train_ids, test_ids, cameras, images, distractors=distractors, junk=junk)))
    assert len(plan) == (train_ids + test_ids) * cameras * images + distractors + junk
    assert len({item.path for item in plan}) == len(plan)
    assert len({item[1:4] for item in plan}) == len(plan)
    pairs = {name: set() for name in ("bounding_box_train", "query", "bounding_box_test")}
    for item in plan:
        folder, name = item.path.split("/")
        match = NAME.match(name)
        assert match
        assert int(match[2]) == item.camera
        assert item.misplaced == (match[1] == "-1")
        pairs[folder].add((int(match[1]), item.camera))
    assert not {person for person, _ in pairs["bounding_box_train"]} & {person for person, _ in pairs["query"]}
    assert len(pairs["query"]) == test_ids * cameras
    for person, camera in pairs["query"]:
        assert any(other == person and where != camera for other, where in pairs["bounding_box_test"])


def test_people_of_the_largest_data_set_are_all_different_persons() -> None:
    plan = plan_images(SyntheticSpec(5000, 4999, 2, 2, distractors=9999, junk=9999))
    assert max(item.person for item in plan) < NUM_COMBINATIONS


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train_ids", 0, r"train_ids must be an integer from 1 to 9998, got 0; 32 is a good start"),
        ("test_ids", 0, r"test_ids must be an integer from 1"),
        ("cameras", 1, r"cameras must be an integer from 2 to 9, got 1"),
        ("cameras", 10, r"cameras must be an integer from 2 to 9, got 10"),
        ("images_per_camera", 1, r"images_per_camera must be an integer from 2 to 999, got 1"),
        ("height", 2.5, r"height must be an integer from 16 to 2048, got 2\.5"),
        ("junk", True, r"junk must be an integer from 0 to 9999, got True"),
        ("seed", -1, r"seed must be an integer from 0"),
        (
            "train_ids",
            9990,
            r"train_ids \+ test_ids must be at most 9999 .*, got 9990 \+ 32; lower one of them",
        ),
    ],
)
def test_a_number_out_of_its_range_is_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(ReidError, match=message):
        SyntheticSpec(**{name: value})  # type: ignore[arg-type]


def test_a_larger_data_set_has_the_pictures_of_a_smaller_one() -> None:
    small, large = (
        {item.path.split("/")[1]: item[1:] for item in plan_images(spec)}
        for spec in (
            SyntheticSpec(2, 3, 2, 2, distractors=3, junk=3),
            SyntheticSpec(4, 9, 2, 3, distractors=5, junk=4),
        )
    )
    assert len(small) == 26
    assert {name: large[name] for name in small} == small
