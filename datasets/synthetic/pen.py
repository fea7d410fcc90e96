"""A pen for synthetic images: anti-aliased shapes on a transparent page."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Point = tuple[float, float]
Color = tuple[int, int, int]
"""Blue, green and red, 0 to 255, as OpenCV orders them."""

PAGE_WIDTH, PAGE_HEIGHT = 64, 128
"""Size of the page in page units, whatever the size of the final image."""

# Shapes have twice the usual image size: the reduction smooths every edge once more.
OVERSAMPLING = 2
_FRACTION_BITS = 4
_FIXED_POINT = OVERSAMPLING * 2**_FRACTION_BITS


class Pen:
    """Draws shapes, given in page units, on ``layer``: (256, 128, 4) uint8, premultiplied BGRA.

    OpenCV blends a smoothed edge with the pixels below, in all four channels. On an empty layer this is premultiplied
    alpha, so the page can be reduced and laid over a background without a dark rim.

    Args:
        scale: magnification of all shapes about the point ``origin``.
        origin: (x, y) in page units.
        offset: shift of the magnified origin, (x, y) in page units.
    """

    def __init__(self, scale: float = 1.0, origin: Point = (0.0, 0.0), offset: Point = (0.0, 0.0)) -> None:
        self.layer: Image = np.zeros((PAGE_HEIGHT * OVERSAMPLING, PAGE_WIDTH * OVERSAMPLING, 4), np.uint8)
        self._factor = scale * _FIXED_POINT
        self._shift = (np.add(origin, offset) - np.multiply(origin, scale)) * _FIXED_POINT

    def polygon(self, points: Sequence[Point], color: Color) -> None:
        """A filled polygon."""
        cv2.fillPoly(self.layer, [self._fixed(points)], (*color, 255), cv2.LINE_AA, _FRACTION_BITS)

    def box(self, center: Point, half: Point, color: Color) -> None:
        """A filled rectangle with beveled corners, ``half`` its half width and half height."""
        (x, y), (w, h) = center, half
        c = 0.3 * min(half)
        corners = [(c - w, -h), (w - c, -h), (w, c - h), (w, h - c), (w - c, h), (c - w, h), (-w, h - c), (-w, c - h)]
        self.polygon([(x + dx, y + dy) for dx, dy in corners], color)

    def ellipse(self, center: Point, half: Point, color: Color, arc: Point = (0.0, 360.0), alpha: int = 255) -> None:
        """A filled ellipse, or its part between the angles of ``arc``: degrees, clockwise from the right."""
        x, y = (int(value) for value in self._fixed([center])[0])
        axes = int(half[0] * self._factor), int(half[1] * self._factor)
        ink = (*color, alpha)
        cv2.ellipse(self.layer, (x, y), axes, 0.0, *arc, ink, -1, cv2.LINE_AA, _FRACTION_BITS)

    def limb(self, start: Point, end: Point, radii: Point, color: Color) -> None:
        """A tapered stroke with round ends."""
        along = np.subtract(end, start)
        normal = np.array([-along[1], along[0]]) / (np.hypot(*along) + 1e-9)
        at_start, at_end = normal * radii[0], normal * radii[1]
        corners = np.array([start + at_start, end + at_end, end - at_end, start - at_start])
        self.polygon([(float(x), float(y)) for x, y in corners], color)
        self.ellipse(start, (radii[0], radii[0]), color)
        self.ellipse(end, (radii[1], radii[1]), color)

    def print_on(self, cloth: Sequence[Point], shapes: Sequence[Sequence[Point]], color: Color) -> None:
        """Polygons cut to the outline of ``cloth``."""
        cloth_mask: Image = np.zeros(self.layer.shape[:2], np.uint8)
        shape_mask: Image = np.zeros(self.layer.shape[:2], np.uint8)
        cv2.fillPoly(cloth_mask, [self._fixed(cloth)], 255, cv2.LINE_8, _FRACTION_BITS)
        for shape in shapes:
            cv2.fillPoly(shape_mask, [self._fixed(shape)], 255, cv2.LINE_8, _FRACTION_BITS)
        self.layer[(cloth_mask & shape_mask) > 0] = (*color, 255)

    def _fixed(self, points: Sequence[Point]) -> NDArray[np.int32]:
        fixed: NDArray[np.int32] = np.rint(np.asarray(points) * self._factor + self._shift).astype(np.int32)
        return fixed


def darken(color: Color, light: float) -> Color:
    """``color`` times ``light``, which is between 0 and 1."""
    return int(color[0] * light), int(color[1] * light), int(color[2] * light)
