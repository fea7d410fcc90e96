"""What images a network wants, in one description from the checkpoint to the gallery."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from utils.errors import ReidError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

RESOLUTION = ("scale", "antialias")
"""The fields that a user may change: a network takes images of any resolution."""


class Difference(NamedTuple):
    """One field in which two descriptions differ."""

    name: str
    own: Any
    other: Any


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network's input.

    Attributes:
        size: height and width in pixels.
        mean: of R, G, B in [0, 1], subtracted.
        std: of R, G, B, divided by.
        interpolation: of the resize, ``bilinear`` or ``bicubic``, antialiased.
        scale: of the low resolution: the image is downsampled by this factor and upsampled again; 1 = full
            resolution.
        antialias: apply a low-pass before that downsampling.
    """

    size: tuple[int, int] = (256, 128)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bilinear"
    scale: int = 1
    antialias: bool = True

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """Build the value from the output of :meth:`as_dict`, whose tuples JSON has turned into lists.

        Raises:
            ReidError: for a missing field.
        """
        names = [field.name for field in fields(cls)]
        if missing := [name for name in names if name not in values]:
            raise ReidError(f"a preprocessing must have {', '.join(names)}, but {', '.join(missing)} is missing")
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v := values[name], list) else v for name in names}
        return cls(**plain)

    def as_dict(self) -> dict[str, Any]:
        """All fields by name, in types of JSON."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    def difference(self, other: "Preprocessing") -> list[Difference]:
        """The fields in which the two differ, except those of the resolution."""
        rows = (Difference(f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return [row for row in rows if row.own != row.other and row.name not in RESOLUTION]
