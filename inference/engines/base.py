"""What an engine is, and what it is asked to compute."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import NamedTuple
from zlib import crc32

import torch
from torch import Tensor

from modelling.network import ReidNetwork
from modelling.onnx_export import to_onnx

Embed = Callable[..., Tensor]
"""(N, 3, H, W) float32 normalized images -> (N, D) float32 vectors, both on the device that computes.

An engine that takes cameras has them, (N,) int64, as its second argument.
"""


class Plan(NamedTuple):
    """One way to compute embeddings.

    Attributes:
        engine: one of :data:`inference.engines.ENGINES`.
        precision: of the backbone, one of :data:`modelling.deployment.PRECISIONS`; that of an exported file is as its
            export says.
        layout: of the images, one of :data:`modelling.deployment.LAYOUTS`.
    """

    engine: str = "torch"
    precision: str = "fp32"
    layout: str = "channels_last"

    def __str__(self) -> str:
        return " ".join(self)


class Source:
    """A network that an engine will compute.

    Args:
        network: in evaluation mode; stays as it is.
        device: that computes.
        size: height and width of the images.
    """

    def __init__(self, network: ReidNetwork, device: torch.device, size: tuple[int, int]) -> None:
        self.network, self.device, self.size = network, device, size

    @property
    def name(self) -> str:
        """Tells networks of different speed apart."""
        return f"network {crc32(repr(self.network).encode()):08x}"

    @cached_property
    def graph(self) -> bytes:
        """What other engines than torch read: the content of an ONNX file; seconds at the first use."""
        return to_onnx(self.network, self.size)

    @property
    def weights(self) -> bytes:
        """What lies outside the graph: nothing of ONNX."""
        return b""

    def feed(self, images: Tensor) -> Tensor:
        """What the graph takes, of normalized images (N, 3, H, W) float32."""
        return images


@dataclass(frozen=True)
class Engine:
    """A library that computes networks.

    Attributes:
        build: makes the function that embeds, as the plan says; imports the library.
        precisions: that it offers.
        layouts: that it offers, the usual one first.
        devices: types of the devices it computes on.
        libraries: that must be installed, by the name that pip and ``import`` share; the first one computes, the
            others convert a network for it.
        takes_cameras: whether it can be told the cameras of images; else they count as unknown.
    """

    build: Callable[[Source, Plan], Embed]
    precisions: tuple[str, ...]
    layouts: tuple[str, ...] = ("contiguous",)
    devices: tuple[str, ...] = ("cpu",)
    libraries: tuple[str, ...] = ()
    takes_cameras: bool = False

    @property
    def missing(self) -> list[str]:
        """The libraries that are not installed."""
        return absent(self.libraries)


def absent(libraries: Iterable[str]) -> list[str]:
    """The libraries that are not installed."""
    return [library for library in libraries if find_spec(library) is None]
