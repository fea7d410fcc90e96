"""Random changes of an image's colors."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torchvision.transforms import v2

_JITTER = {"brightness": 0.15, "contrast": 0.15, "saturation": 0.1, "hue": 0.1}
_BLUR = {"kernel_size": 5, "sigma": (0.1, 2.0)}


@dataclass(frozen=True)
class Colors:
    """With which probability an image is changed, in this order.

    Attributes:
        auto_augment: by a random policy of AutoAugment for ImageNet (Cubuk et al., CVPR 2019), which also shears and
            rotates.
        jitter: in brightness and contrast by up to 15 %, in saturation and hue by up to 10 %.
        gray: to gray.
        blur: by a Gaussian of a deviation from 0.1 to 2 pixels.
    """

    auto_augment: float = 0.0
    jitter: float = 0.0
    gray: float = 0.0
    blur: float = 0.0

    def transform(self) -> Callable[[Tensor], Tensor] | None:
        """A function that changes K images alike, (K, 3, H, W) uint8; None if no probability is above 0."""
        steps = [
            *([v2.RandomApply([v2.AutoAugment()], self.auto_augment)] if self.auto_augment else []),
            *([v2.RandomApply([v2.ColorJitter(**_JITTER)], self.jitter)] if self.jitter else []),
            *([v2.RandomGrayscale(self.gray)] if self.gray else []),
            *([v2.RandomApply([v2.GaussianBlur(**_BLUR)], self.blur)] if self.blur else []),
        ]
        return v2.Compose(steps) if steps else None
