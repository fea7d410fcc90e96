"""One image of the synthetic data set: a person in front of a camera, and obstacles."""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from datasets.synthetic.cameras import Camera, camera_of
from datasets.synthetic.figure import draw_person
from datasets.synthetic.pen import PAGE_HEIGHT, Color, Image, Pen, darken
from datasets.synthetic.people import IMAGE_STREAM, NUM_COMBINATIONS, Pose, appearance_of, draw_pose

_BYSTANDER_SHARE, _OBSTACLE_SHARE = 0.15, 0.22
_OBSTACLES: tuple[Color, ...] = ((72, 76, 80), (130, 134, 138), (50, 84, 60), (60, 76, 130))


def encode_image(
    seed: int, person: int, camera: int, number: int, size: tuple[int, int], misplaced: bool = False
) -> bytes:
    """Draw one image; the arguments alone decide its content.

    Args:
        seed: of the data set.
        person: the person on the image, 0 to ``NUM_COMBINATIONS - 1``.
        camera: number of the camera, from 1.
        number: of the image among those of this person and camera.
        size: (height, width) in pixels.
        misplaced: the crop misses most of the person, as a failed detection does.

    Returns:
        The bytes of a JPEG file.
    """
    rng = np.random.default_rng([IMAGE_STREAM, seed, person + 1, camera, number + 1])
    seen_by = camera_of(seed, camera)
    pose = draw_pose(rng, seen_by.turn)
    if misplaced:
        side = float(rng.choice([-1.0, 1.0]) * rng.uniform(22.0, 34.0))
        pose = replace(pose, offset=(side, pose.offset[1] - 30.0))
    scene = cv2.resize(seen_by.background(rng), size[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
    if rng.random() < _BYSTANDER_SHARE:
        bystander = appearance_of(seed, int(rng.integers(NUM_COMBINATIONS)))
        behind = _in_the_background(draw_pose(rng, seen_by.turn), rng)
        _lay_over(scene, draw_person(bystander, behind), seen_by)
    _lay_over(scene, draw_person(appearance_of(seed, person), pose), seen_by)
    if rng.random() < _OBSTACLE_SHARE:
        _lay_over(scene, _draw_obstacle(rng), seen_by)
    image = seen_by.expose(scene, rng)
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, seen_by.jpeg_quality])
    return encoded.tobytes()


def _in_the_background(pose: Pose, rng: np.random.Generator) -> Pose:
    side = float(rng.choice([-1.0, 1.0]) * rng.uniform(20.0, 30.0))
    return replace(pose, scale=0.7 * pose.scale, offset=(side, float(rng.uniform(-24.0, -12.0))))


def _lay_over(scene: NDArray[np.float32], page: Image, camera: Camera) -> None:
    """Compose a premultiplied page, lit from one side, onto the scene (H, W, 3), in place."""
    height, width = scene.shape[:2]
    layer = cv2.resize(page, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    light = np.linspace(1.0 - 0.3 * camera.light_from, 1.0 + 0.3 * camera.light_from, width, dtype=np.float32)
    scene *= 1.0 - layer[:, :, 3:] / np.float32(255.0)
    scene += layer[:, :, :3] * light[None, :, None]


def _draw_obstacle(rng: np.random.Generator) -> Image:
    """A post in front of the person, or a low wall, bin or car that hides the legs."""
    pen, color = Pen(), _OBSTACLES[int(rng.integers(len(_OBSTACLES)))]
    x = float(rng.uniform(8.0, 56.0))
    if rng.random() < 0.5:
        half = float(rng.uniform(2.5, 5.0))
        pen.box((x, 64.0), (half, 80.0), color)
        pen.box((x + 0.5 * half, 64.0), (0.3 * half, 80.0), darken(color, 0.7))
    else:
        half, top = float(rng.uniform(12.0, 34.0)), float(rng.uniform(78.0, 104.0))
        pen.box((x, PAGE_HEIGHT), (half, PAGE_HEIGHT - top), color)
        pen.box((x, top + 3.0), (half, 3.0), darken(color, 0.7))
    return pen.layer
