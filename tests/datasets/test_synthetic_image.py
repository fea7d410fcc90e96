"""Images of the synthetic data set: determinism, who can be told from whom, and difficulty."""

from collections import Counter

import cv2
import numpy as np
import pytest

from datasets.synthetic.cameras import camera_of
from datasets.synthetic.figure import draw_person
from datasets.synthetic.image import encode_image
from datasets.synthetic.people import LOWER_COLORS, UPPER_COLORS, Appearance, Pose, appearance_of

STANDING = Pose(phase=0.4, turn=0.5, from_behind=False, scale=1.0, offset=(0.0, 0.0))


def nearest(color: tuple[int, int, int], palette: tuple[tuple[int, int, int], ...]) -> int:
    return int(np.argmin([np.abs(np.subtract(color, other)).sum() for other in palette]))


def traits(who: Appearance) -> tuple[object, ...]:
    colors = nearest(who.upper, UPPER_COLORS), nearest(who.lower, LOWER_COLORS)
    return (*colors, who.texture, who.garment, who.bag, who.hair, who.build, who.long_sleeves)


def test_combination_of_traits_is_unique_while_each_color_is_worn_by_many() -> None:
    people = [traits(appearance_of(7, person)) for person in range(1, 2001)]
    assert len(set(people)) == len(people)
    assert min(Counter(person[0] for person in people).values()) > 200
    assert min(Counter(person[1] for person in people).values()) > 200


def test_same_arguments_give_the_same_bytes_whatever_was_drawn_before() -> None:
    keys = [(person, camera, number) for person in (1, 9, 500) for camera in (1, 3) for number in (0, 1)]
    forward = {key: encode_image(5, *key, (64, 32)) for key in keys}
    camera_of.cache_clear()
    encode_image(6, 3, 2, 1, (64, 32))
    assert {key: encode_image(5, *key, (64, 32)) for key in reversed(keys)} == forward
    assert len(set(forward.values())) == len(keys)


def test_another_seed_gives_other_images() -> None:
    assert encode_image(0, 1, 1, 0, (64, 32)) != encode_image(1, 1, 1, 0, (64, 32))


def test_figure_is_premultiplied_and_depends_on_the_person() -> None:
    figure, other = draw_person(appearance_of(0, 1), STANDING), draw_person(appearance_of(0, 2), STANDING)
    assert figure.shape == (256, 128, 4)
    assert (figure[:, :, :3] <= figure[:, :, 3:]).all()
    covered = (figure[:, :, 3] == 255).mean()
    assert 0.15 < covered < 0.6
    assert (np.abs(figure.astype(int) - other).sum(2) > 60).mean() > 0.05
    np.testing.assert_array_equal(figure, draw_person(appearance_of(0, 1), STANDING))


@pytest.mark.parametrize("seed", range(5))
def test_cameras_differ_in_light(seed: int) -> None:
    gains = [np.log(camera_of(seed, camera).gain) for camera in range(1, 7)]
    gaps = [np.abs(a - b).max() for i, a in enumerate(gains) for b in gains[:i]]
    assert min(gaps) > 0.05
    assert max(gaps) > 0.4


def test_a_misplaced_crop_shows_less_of_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    visible: list[float] = []

    def measure(who: Appearance, pose: Pose) -> np.ndarray:
        page = draw_person(who, pose)
        if pose.scale > 0.9:
            visible.append(float((page[:, :, 3] == 255).mean()))
        return page

    monkeypatch.setattr("datasets.synthetic.image.draw_person", measure)
    for person in range(10):
        encode_image(0, person, 1, 0, (32, 16))
        encode_image(0, person, 1, 0, (32, 16), misplaced=True)
    assert len(visible) == 20
    assert np.mean(visible[1::2]) < 0.7 * np.mean(visible[0::2])


def test_raw_pixels_do_not_find_the_person_in_another_camera() -> None:
    def pixels(person: int, camera: int, number: int) -> np.ndarray:
        encoded = np.frombuffer(encode_image(0, person, camera, number, (64, 32)), np.uint8)
        return cv2.imdecode(encoded, cv2.IMREAD_COLOR).astype(np.float64).ravel()

    keys = [(person, camera) for person in range(1, 17) for camera in range(1, 5)]
    gallery = {key: pixels(*key, 1) for key in keys}
    hits = 0
    for person, camera in keys:
        query = pixels(person, camera, 0)
        others = [key for key in keys if key != (person, camera)]
        hits += min(others, key=lambda key: float(((gallery[key] - query) ** 2).sum()))[0] == person
    assert hits / len(keys) < 0.4


def test_smallest_and_odd_sizes_are_drawn() -> None:
    for size in ((16, 8), (97, 41), (300, 160)):
        encoded = np.frombuffer(encode_image(0, 1, 1, 0, size), np.uint8)
        assert cv2.imdecode(encoded, cv2.IMREAD_COLOR).shape == (*size, 3)
