"""The cameras of the synthetic data set: scenery, light and faults of each."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from datasets.synthetic.pen import OVERSAMPLING, PAGE_HEIGHT, PAGE_WIDTH, Color, Image, darken
from datasets.synthetic.people import CAMERA_STREAM

_WALLS: tuple[Color, ...] = ((150, 160, 168), (92, 112, 150), (84, 112, 88), (186, 180, 170), (120, 104, 92))
_FLOORS: tuple[Color, ...] = ((104, 104, 106), (140, 148, 156), (84, 118, 100), (120, 136, 158), (160, 158, 152))
_CLUTTER: tuple[Color, ...] = (
    (60, 60, 64),
    (60, 110, 60),
    (40, 40, 150),
    (170, 170, 174),
    (150, 90, 40),
    (60, 90, 120),
)
_SCENERY_WIDTH, _SCENERY_HEIGHT = 640, 288
# Multiples of the golden ratio modulo one are spread evenly, however many there are: two cameras are never alike, and
# the light of a camera does not depend on their number.
_EXPOSURE_STEP, _WARMTH_STEP = 0.6180339887, 0.3490659503


@dataclass(frozen=True)
class Camera:
    """What all images of one camera share.

    Args:
        scenery: (288, 640, 3) uint8 BGR, the place; an image shows a part of it.
        gain: (3,) float32, multiplies blue, green and red.
        lift: gray level of black, 0 to 255.
        light_from: -1 = the sun is on the left, 1 = on the right.
        turn: direction in which most people pass, -1 left to 1 right.
        blur: standard deviation, in page units.
        noise: standard deviation, in gray levels.
        jpeg_quality: 0 to 100.
    """

    scenery: Image
    gain: NDArray[np.float32]
    lift: float
    light_from: float
    turn: float
    blur: float
    noise: float
    jpeg_quality: int

    def background(self, rng: np.random.Generator) -> Image:
        """A random part of the scenery, (256, 128, 3) uint8, with the ground where people stand."""
        height, width = PAGE_HEIGHT * OVERSAMPLING, PAGE_WIDTH * OVERSAMPLING
        x = int(rng.integers(_SCENERY_WIDTH - width + 1))
        y = int(rng.integers(_SCENERY_HEIGHT - height + 1))
        return self.scenery[y : y + height, x : x + width]

    def expose(self, scene: NDArray[np.float32], rng: np.random.Generator) -> Image:
        """Take a picture: light, blur and noise.

        Args:
            scene: (H, W, 3) float32 BGR, 0 to 255.
            rng: random numbers of this image.

        Returns:
            (H, W, 3) uint8 BGR.
        """
        moment = np.float32(np.exp(rng.normal(0.0, 0.09)))
        image = scene * (self.gain * moment * np.float32(1.0 - self.lift / 255.0)) + np.float32(self.lift)
        sigma = self.blur * float(rng.uniform(0.6, 1.6)) * scene.shape[1] / PAGE_WIDTH
        noise = rng.standard_normal(scene.shape, np.float32) * np.float32(self.noise)
        picture: Image = np.clip(cv2.GaussianBlur(image, (0, 0), sigma) + noise, 0.0, 255.0).astype(np.uint8)
        return picture


@lru_cache(maxsize=32)
def camera_of(seed: int, camera: int) -> Camera:
    """The camera with this number (1 is the first), a function of the two arguments alone."""
    start = np.random.default_rng([CAMERA_STREAM, seed]).random(2)
    exposure, warmth = (start + camera * np.array([_EXPOSURE_STEP, _WARMTH_STEP])) % 1.0 * 2.0 - 1.0
    rng = np.random.default_rng([CAMERA_STREAM, seed, camera])
    return Camera(
        scenery=_draw_scenery(rng),
        gain=np.exp(0.38 * exposure - 0.06 + 0.26 * warmth * np.array([-1.0, 0.0, 1.0])).astype(np.float32),
        lift=float(rng.uniform(0.0, 36.0)),
        light_from=float(rng.choice([-1.0, 1.0])),
        turn=float(rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 1.0)),
        blur=float(rng.uniform(0.2, 0.7)),
        noise=float(rng.uniform(2.0, 7.0)),
        jpeg_quality=int(rng.integers(60, 92)),
    )


def _draw_scenery(rng: np.random.Generator) -> Image:
    wall, floor = _pick(_WALLS, rng), _pick(_FLOORS, rng)
    scenery: Image = np.empty((_SCENERY_HEIGHT, _SCENERY_WIDTH, 3), np.uint8)
    horizon = int(rng.integers(100, 190))
    scenery[:horizon], scenery[horizon:] = wall, floor
    _draw_wall(scenery[:horizon], wall, rng)
    _draw_floor(scenery[horizon:], floor, rng)
    for _ in range(int(rng.integers(8, 14))):
        _draw_clutter(scenery, horizon, rng)
    grain = cv2.GaussianBlur(rng.normal(0.0, 26.0, scenery.shape[:2]).astype(np.float32), (0, 0), 2.0)
    scene = cv2.GaussianBlur(scenery, (0, 0), 1.4).astype(np.float32) + grain[:, :, None]
    pixels: Image = np.clip(scene, 0.0, 255.0).astype(np.uint8)
    return pixels


def _draw_wall(wall: Image, color: Color, rng: np.random.Generator) -> None:
    """Either windows or a hedge."""
    height, width = wall.shape[:2]
    if rng.random() < 0.6:
        step, glass = int(rng.integers(44, 90)), darken(color, float(rng.uniform(0.4, 0.75)))
        for x in range(int(rng.integers(step)), width, step):
            cv2.rectangle(wall, (x, int(0.15 * height)), (x + step // 2, int(0.7 * height)), glass, -1)
        return
    for _ in range(260):
        center = int(rng.integers(width)), int(rng.integers(height))
        cv2.circle(
            wall, center, int(rng.integers(4, 14)), darken(color, float(rng.uniform(0.55, 1.0))), -1, cv2.LINE_AA
        )


def _draw_floor(floor: Image, color: Color, rng: np.random.Generator) -> None:
    """Paving: lines across, and lines that meet at the horizon."""
    height, width = floor.shape[:2]
    joint, step = darken(color, 0.8), int(rng.integers(30, 70))
    for x in range(-width, 2 * width, step):
        cv2.line(floor, (width // 2 + (x - width // 2) // 2, 0), (x, height), joint, 1, cv2.LINE_AA)
    for part in (0.08, 0.2, 0.38, 0.62, 0.92):
        cv2.line(floor, (0, int(part * height)), (width, int(part * height)), joint, 1, cv2.LINE_AA)


def _draw_clutter(scenery: Image, horizon: int, rng: np.random.Generator) -> None:
    """A lamp post, a bin or kiosk, a parked bicycle, or a painted line on the ground."""
    x, foot = int(rng.integers(_SCENERY_WIDTH)), horizon + int(rng.integers(4, 50))
    color, size = _pick(_CLUTTER, rng), int(rng.integers(16, 44))
    kind = rng.random()
    if kind < 0.3:
        cv2.line(scenery, (x, 0), (x, foot), color, int(rng.integers(3, 9)), cv2.LINE_AA)
    elif kind < 0.7:
        cv2.rectangle(scenery, (x, foot - 2 * size), (x + size, foot), color, -1)
        cv2.rectangle(scenery, (x, foot - 2 * size), (x + size, foot - 2 * size + 8), darken(color, 0.6), -1)
    elif kind < 0.85:
        for wheel in (x, x + 46):
            cv2.circle(scenery, (wheel, foot - 18), 18, darken(color, 0.5), 3, cv2.LINE_AA)
        frame = np.array(
            [(x, foot - 18), (x + 14, foot - 44), (x + 40, foot - 44), (x + 46, foot - 18), (x + 14, foot - 44)]
        )
        cv2.polylines(scenery, [frame.astype(np.int32)], False, color, 3, cv2.LINE_AA)
    else:
        cv2.line(scenery, (x, horizon), (x + 3 * size - 90, _SCENERY_HEIGHT), (206, 212, 214), 10, cv2.LINE_AA)


def _pick(colors: tuple[Color, ...], rng: np.random.Generator) -> Color:
    return colors[int(rng.integers(len(colors)))]
