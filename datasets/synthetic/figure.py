"""Draw one synthetic pedestrian: legs, torso, arms, head, hair, printed cloth and bag."""

from typing import NamedTuple

import numpy as np

from datasets.synthetic.pen import Image, Pen, Point, darken
from datasets.synthetic.people import Appearance, Pose

_WIDTH_OF_BUILD = {"slim": 0.84, "medium": 1.0, "broad": 1.2}
_MIDDLE = 32.0
_GROUND: Point = (_MIDDLE, 123.0)
_FAR_SIDE_LIGHT = 0.72

Joints = tuple[Point, Point, Point]


class _Body(NamedTuple):
    """The place of a body in one pose, in page units; of two limbs the first is nearer to the camera."""

    girth: float
    shoulder: float
    hip: float
    torso: list[Point]
    legs: tuple[Joints, Joints]
    arms: tuple[Joints, Joints]


def draw_person(who: Appearance, pose: Pose) -> Image:
    """Draw a person on an empty page.

    Returns:
        (256, 128, 4) uint8: blue, green and red premultiplied with the last channel, the opacity.
    """
    pen = Pen(pose.scale * who.stature, _GROUND, pose.offset)
    body = _place_body(who, pose)
    pen.ellipse((_MIDDLE + 5.0 * pose.turn, 122.5), (17.0, 2.6), (0, 0, 0), alpha=110)
    _draw_arm(pen, who, body, body.arms[1], _FAR_SIDE_LIGHT)
    if who.bag == "backpack" and not pose.from_behind:
        _draw_backpack_from_the_front(pen, who, pose, body)
    _draw_leg(pen, who, body, pose.turn, near=False)
    _draw_leg(pen, who, body, pose.turn, near=True)
    if who.garment == "skirt":
        x0, x1 = sorted(leg[1][0] for leg in body.legs)
        waist = [(_MIDDLE - body.hip, 64.0), (_MIDDLE + body.hip, 64.0)]
        pen.polygon([*waist, (x1 + 6.5, 95.0), (x0 - 6.5, 95.0)], who.lower)
    pen.polygon(body.torso, who.upper)
    _print_texture(pen, who, pose, body)
    _draw_head(pen, who, pose)
    if who.bag == "backpack":
        _draw_backpack_over_the_cloth(pen, who, pose, body)
    _draw_arm(pen, who, body, body.arms[0], 0.9)
    _draw_carried_bag(pen, who, pose, body)
    return pen.layer


def _place_body(who: Appearance, pose: Pose) -> _Body:
    build, side = _WIDTH_OF_BUILD[who.build], abs(pose.turn)
    width = build * (1.0 - 0.25 * side)
    shoulder, waist, hip = 12.5 * width, 9.0 * width * build**0.5, 9.4 * width
    half = [(3.5, 28.5), (shoulder - 2.5, 30.5), (shoulder, 35.0), (waist, 54.0), (hip, 70.0)]
    torso = [(_MIDDLE + x, y) for x, y in half] + [(_MIDDLE - x, y) for x, y in reversed(half)]
    legs, arms = [], []
    # The near limbs are on the right of the image if the person walks left, and the other way round.
    for sign in (1.0, -1.0) if pose.turn < 0 else (-1.0, 1.0):
        swing = float(np.radians(27.0) * np.sin(pose.phase) * sign)
        bend = float(np.radians(36.0)) * max(0.0, float(np.cos(pose.phase)) * sign)
        hip_joint = (_MIDDLE + sign * hip * 0.46 * (1.0 - 0.4 * side), 69.0)
        legs.append(_chain(hip_joint, (25.0, 24.0), (swing, swing - bend), pose.turn, 0.0))
        shoulder_joint = (_MIDDLE + sign * (shoulder - 2.0) * (1.0 - 0.45 * side), 34.5)
        arms.append(
            _chain(shoulder_joint, (17.0, 15.0), (-swing, 0.35 - swing), pose.turn, sign * 0.14 * (1.2 - side))
        )
    return _Body(build**0.7, shoulder, hip, torso, (legs[0], legs[1]), (arms[0], arms[1]))


def _chain(start: Point, lengths: Point, angles: Point, turn: float, out: float) -> Joints:
    """Two bones in a row; a bone that swings along the line of sight does not move sideways."""
    middle = _bone(start, lengths[0], angles[0], turn, out)
    return start, middle, _bone(middle, lengths[1], angles[1], turn, 0.0)


def _bone(start: Point, length: float, angle: float, turn: float, out: float) -> Point:
    return start[0] + length * (float(np.sin(angle)) * turn + out), start[1] + length * float(np.cos(angle))


def _draw_leg(pen: Pen, who: Appearance, body: _Body, turn: float, *, near: bool) -> None:
    hip, knee, ankle = body.legs[0 if near else 1]
    light = 1.0 if near else _FAR_SIDE_LIGHT
    bare, cloth = darken(who.skin, light), darken(who.lower, light)
    toes = (ankle[0] + 4.5 * turn, ankle[1] + 3.4)
    pen.limb((ankle[0], ankle[1] + 2.6), toes, (2.8, 2.2), darken(who.shoes, light))
    if who.garment == "trousers":
        pen.limb(knee, ankle, (4.5 * body.girth, 3.2 * body.girth), cloth)
    else:
        pen.limb(knee, ankle, (3.3 * body.girth, 2.2 * body.girth), bare)
    thigh = bare if who.garment == "skirt" else cloth
    pen.limb(hip, knee, (5.4 * body.girth, 4.6 * body.girth), thigh)


def _draw_arm(pen: Pen, who: Appearance, body: _Body, joints: Joints, light: float) -> None:
    shoulder, elbow, wrist = joints
    sleeve, skin = darken(who.upper, light), darken(who.skin, light)
    pen.ellipse((wrist[0], wrist[1] + 1.5), (2.3, 2.9), skin)
    pen.limb(elbow, wrist, (2.9 * body.girth, 2.2 * body.girth), sleeve if who.long_sleeves else skin)
    pen.limb(shoulder, elbow, (3.6 * body.girth, 3.1 * body.girth), sleeve)


def _print_texture(pen: Pen, who: Appearance, pose: Pose, body: _Body) -> None:
    drift = 2.5 * pose.turn
    if who.texture == "hoops":
        shapes = [_rectangle(_MIDDLE, y, 20.0, 1.9) for y in (37.0, 45.0, 53.0, 61.0)]
    elif who.texture == "stripes":
        shapes = [_rectangle(_MIDDLE + drift + x, 50.0, 1.2, 24.0) for x in (-10.0, -5.0, 0.0, 5.0, 10.0)]
    elif who.texture == "dots":
        rows = [(row, 36.0 + 7.0 * row) for row in range(5)]
        columns = (-9.0, -3.0, 3.0, 9.0)
        shapes = [_diamond(_MIDDLE + drift + x + 3.0 * (row % 2), y, 1.9) for row, y in rows for x in columns]
    elif who.texture == "logo":
        shapes = [_diamond(_MIDDLE + drift, 44.0, 6.5)]
    elif who.texture == "block":
        shapes = [_rectangle(_MIDDLE, 40.0, 20.0, 10.0)]
    else:
        return
    pen.print_on(body.torso, shapes, who.accent)


def _rectangle(x: float, y: float, half_width: float, half_height: float) -> list[Point]:
    x0, x1, y0, y1 = x - half_width, x + half_width, y - half_height, y + half_height
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def _diamond(x: float, y: float, half: float) -> list[Point]:
    return [(x, y - half), (x + half, y), (x, y + half), (x - half, y)]


def _draw_head(pen: Pen, who: Appearance, pose: Pose) -> None:
    x, hair = _MIDDLE + 1.5 * pose.turn, who.hair_color
    back = -1.8 * pose.turn
    if who.hair == "long":
        pen.box((x + back, 26.0), (6.8, 11.0), hair)
    pen.limb((_MIDDLE, 31.0), (x, 24.0), (3.0, 2.8), darken(who.skin, 0.85))
    pen.ellipse((x, 19.5), (5.6, 7.4), who.skin)
    if who.hair == "bun":
        pen.ellipse((x + 1.5 * back, 10.8), (3.4, 3.2), hair)
    if pose.from_behind:
        pen.ellipse((x, 18.6), (6.3, 7.8), hair)
        if who.hair == "long":
            pen.box((x, 25.5), (6.2, 10.5), hair)
    else:
        pen.ellipse((x + 0.5 * back, 17.8), (6.3, 7.2), hair, (178.0, 362.0))
        if abs(pose.turn) > 0.5:
            pen.ellipse((x + 2.2 * back, 18.6), (3.8, 6.4), hair)
    if who.hair == "cap":
        pen.ellipse((x, 17.2), (6.9, 7.4), who.bag_color, (180.0, 360.0))
        pen.limb((x, 16.8), (x + 8.5 * pose.turn, 17.2), (1.3, 1.1), who.bag_color)


def _draw_backpack_from_the_front(pen: Pen, who: Appearance, pose: Pose, body: _Body) -> None:
    pen.box((_MIDDLE - (body.shoulder * 0.75 + 1.0) * pose.turn, 46.0), (10.0, 14.0), darken(who.bag_color, 0.85))


def _draw_backpack_over_the_cloth(pen: Pen, who: Appearance, pose: Pose, body: _Body) -> None:
    if pose.from_behind:
        x = _MIDDLE - 3.0 * pose.turn
        pen.box((x, 47.0), (body.shoulder * 0.78, 14.5), who.bag_color)
        pen.box((x, 53.0), (body.shoulder * 0.5, 5.0), darken(who.bag_color, 0.7))
        return
    for side in (-0.58, 0.58):
        x = _MIDDLE + side * body.shoulder
        pen.limb((x, 31.0), (x, 50.0), (1.5, 1.3), who.bag_color)


def _draw_carried_bag(pen: Pen, who: Appearance, pose: Pose, body: _Body) -> None:
    if who.bag == "shoulder bag":
        side = 1.0 if pose.from_behind else -1.0
        hip = _MIDDLE + side * (body.hip + 2.0)
        pen.limb((_MIDDLE - side * body.shoulder * 0.7, 32.0), (hip, 67.0), (1.2, 1.2), who.bag_color)
        pen.box((hip, 72.0), (5.8, 5.4), who.bag_color)
    elif who.bag == "handbag":
        x, y = body.arms[0][2]
        pen.limb((x, y + 2.0), (x, y + 8.0), (1.0, 1.4), darken(who.bag_color, 0.8))
        pen.box((x, y + 12.5), (7.0, 6.0), who.bag_color)
