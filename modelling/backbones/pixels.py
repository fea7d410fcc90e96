"""How images were normalised on which weights were trained."""

from typing import NamedTuple


class Pixels(NamedTuple):
    """Normalisation of images in [0, 1]; torchvision's and most other ImageNet weights know the default.

    Attributes:
        mean: of R, G, B.
        std: of R, G, B.
    """

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
