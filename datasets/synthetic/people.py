"""The people of the synthetic data set: the clothes of a person, and the pose in one image."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from datasets.synthetic.pen import Color, Point

Texture = Literal["plain", "hoops", "stripes", "dots", "logo", "block"]
Garment = Literal["trousers", "shorts", "skirt"]
Bag = Literal["none", "backpack", "shoulder bag", "handbag"]
Hair = Literal["short", "long", "bun", "cap"]
Build = Literal["slim", "medium", "broad"]

# Few colors on purpose: many people share each, so no single garment identifies a person.
UPPER_COLORS: tuple[Color, ...] = (
    (48, 44, 182),
    (160, 84, 36),
    (66, 124, 48),
    (222, 224, 224),
    (46, 42, 42),
    (52, 182, 216),
)
LOWER_COLORS: tuple[Color, ...] = ((44, 42, 42), (128, 84, 52), (124, 160, 186), (124, 124, 122), (52, 46, 112))
HAIR_COLORS: tuple[Color, ...] = ((26, 26, 30), (36, 54, 84), (110, 176, 206), (140, 140, 142))
BAG_COLORS: tuple[Color, ...] = ((38, 36, 36), (44, 70, 112), (52, 52, 168), (150, 140, 60))
SKIN_COLORS: tuple[Color, ...] = ((158, 186, 226), (112, 146, 196), (70, 96, 142))
SHOE_COLORS: tuple[Color, ...] = ((30, 30, 32), (214, 214, 214), (50, 74, 110))
_LIGHT_ACCENTS: tuple[Color, ...] = ((232, 232, 232), (84, 208, 236))
_DARK_ACCENTS: tuple[Color, ...] = ((74, 34, 28), (46, 36, 160))

_SHARED_TRAITS = (
    len(UPPER_COLORS),
    len(get_args(Texture)),
    len(LOWER_COLORS),
    len(get_args(Garment)),
    len(get_args(Bag)),
    len(get_args(Hair)),
    len(get_args(Build)),
    2,
)
NUM_COMBINATIONS = int(np.prod(_SHARED_TRAITS))
"""Number of people who differ by their combination of traits alone."""

# First words of the random seeds: streams of two purposes never meet.
PERSON_STREAM, IMAGE_STREAM, CAMERA_STREAM = 1, 2, 3


class Appearance(NamedTuple):
    """The looks of a person for all cameras; the first eight fields together are unique to a person."""

    upper: Color
    texture: Texture
    lower: Color
    garment: Garment
    bag: Bag
    hair: Hair
    build: Build
    long_sleeves: bool
    accent: Color
    bag_color: Color
    hair_color: Color
    skin: Color
    shoes: Color
    stature: float


@dataclass(frozen=True)
class Pose:
    """How a person stands in one image.

    Args:
        phase: of the step, in radians; one cycle is two steps.
        turn: -1 walks left, 0 straight along the line of sight, 1 walks right.
        from_behind: the person walks away from the camera.
        scale: size of the figure, 1 fills the crop.
        offset: of the figure in the crop, (x, y) in 1/64 of the crop's width and 1/128 of its height.
    """

    phase: float
    turn: float
    from_behind: bool
    scale: float
    offset: Point


@lru_cache(maxsize=4)
def _combinations(seed: int) -> NDArray[np.int64]:
    return np.random.default_rng([PERSON_STREAM, seed]).permutation(NUM_COMBINATIONS)


def appearance_of(seed: int, person: int) -> Appearance:
    """The looks of a person; the arguments alone decide them.

    Args:
        seed: of the data set.
        person: 0 to ``NUM_COMBINATIONS - 1``; two persons never share a combination of traits.
    """
    upper, texture, lower, garment, bag, hair, build, sleeves = (
        int(trait) for trait in np.unravel_index(int(_combinations(seed)[person]), _SHARED_TRAITS)
    )
    rng = np.random.default_rng([PERSON_STREAM, seed, person + 1])
    base = UPPER_COLORS[upper]
    accents = _DARK_ACCENTS if sum(base) > 380 else _LIGHT_ACCENTS
    return Appearance(
        upper=_own_shade(base, rng),
        texture=get_args(Texture)[texture],
        lower=_own_shade(LOWER_COLORS[lower], rng),
        garment=get_args(Garment)[garment],
        bag=get_args(Bag)[bag],
        hair=get_args(Hair)[hair],
        build=get_args(Build)[build],
        long_sleeves=bool(sleeves),
        accent=_one_of(accents, rng),
        bag_color=_one_of(BAG_COLORS, rng),
        hair_color=_one_of(HAIR_COLORS, rng),
        skin=_one_of(SKIN_COLORS, rng),
        shoes=_one_of(SHOE_COLORS, rng),
        stature=float(rng.uniform(0.93, 1.04)),
    )


def draw_pose(rng: np.random.Generator, turn: float) -> Pose:
    """A random moment of a walk.

    Args:
        rng: random numbers.
        turn: the direction in which most people pass this camera, as :attr:`Pose.turn`.
    """
    against_the_stream = rng.random() < 0.3
    return Pose(
        phase=float(rng.uniform(0.0, 2.0 * np.pi)),
        turn=float(np.clip((-turn if against_the_stream else turn) + rng.uniform(-0.3, 0.3), -1.0, 1.0)),
        from_behind=bool(rng.random() < 0.5),
        scale=float(rng.uniform(0.93, 1.11)),
        offset=(float(rng.uniform(-5.0, 5.0)), float(rng.uniform(-4.0, 4.0))),
    )


def _one_of(colors: tuple[Color, ...], rng: np.random.Generator) -> Color:
    return colors[int(rng.integers(len(colors)))]


def _own_shade(color: Color, rng: np.random.Generator) -> Color:
    shade = np.clip(np.multiply(color, rng.uniform(0.88, 1.12)) + rng.uniform(-8.0, 8.0, 3), 0.0, 255.0)
    blue, green, red = (int(channel) for channel in shade)
    return blue, green, red
