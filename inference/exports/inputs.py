"""What an exported file takes: its caller has normalized images in one way or another, or not at all."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from datasets.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing


class _Channels(NamedTuple):
    """Mean and deviation of R, G, B that the caller has applied to values in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Input:
    """A convention.

    Attributes:
        normalization: that the caller applies; None = that of the network.
        in_bytes: the file takes (N, H, W, 3) uint8 instead of (N, 3, H, W) float32.
    """

    normalization: _Channels | None = None
    in_bytes: bool = False

    def entry(self, images: Preprocessing) -> nn.Module:
        """The first layer of the file: from what it takes to the images of the network, (N, 3, H, W) float32."""
        return Entry(*self._change(images), in_bytes=self.in_bytes)

    def feed(self, normalized: Tensor, images: Preprocessing) -> Tensor:
        """The inverse of :meth:`entry`.

        Args:
            normalized: (N, 3, H, W) float32, as the network takes them.
            images: of the network.

        Returns:
            What the file takes; bytes are rounded.
        """
        factor, shift = self._change(images)
        values = normalized if self.normalization is None else (normalized - shift) / factor
        if not self.in_bytes:
            return values
        return values.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def _change(self, images: Preprocessing) -> tuple[Tensor, Tensor]:
        """Factor and shift, each (1, 3, 1, 1), from the caller's normalization to that of the network."""
        own, other = self.normalization or _Channels(images.mean, images.std), _Channels(images.mean, images.std)
        mean, std, network_mean, network_std = (
            torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1) for values in (*own, *other)
        )
        return (std / network_std).float(), ((mean - network_mean) / network_std).float()


class Entry(nn.Module):
    """Turn what a file takes into normalized images.

    Args:
        factor: (1, 3, 1, 1).
        shift: (1, 3, 1, 1).
        in_bytes: the images are (N, H, W, 3) uint8.
    """

    factor: Tensor
    shift: Tensor

    def __init__(self, factor: Tensor, shift: Tensor, *, in_bytes: bool) -> None:
        super().__init__()
        self._in_bytes = in_bytes
        self._is_identity = bool((factor == 1).all() and (shift == 0).all())
        self.register_buffer("factor", factor)
        self.register_buffer("shift", shift)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) float32, or (N, H, W, 3) uint8 -> (N, 3, H, W) float32."""
        values = images.permute(0, 3, 1, 2).float() if self._in_bytes else images
        return values if self._is_identity else values * self.factor + self.shift


INPUTS: dict[str, Input] = {
    "normalized": Input(),
    "pixels": Input(_Channels((0.0,) * 3, (1 / 255,) * 3), in_bytes=True),
    "fractions": Input(_Channels((0.0,) * 3, (1.0,) * 3)),
    "imagenet": Input(_Channels(IMAGENET_MEAN, IMAGENET_STD)),
}
"""--input -> images normalized as the network wants, bytes, values in [0, 1], images normalized as for ImageNet."""
