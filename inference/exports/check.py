"""Compare an exported file with the network that it comes from."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from datasets.preprocessing import Preprocessing
from datasets.transforms import NetworkInput, TestTransform
from engine.settings import Settings
from inference.engines import Embed, build
from inference.exports.base import Export
from inference.exports.opened import open_exported
from inference.images import list_images
from inference.models import prepare
from modelling.deployment import Embedder
from utils.errors import ReidError, one_line
from utils.images import read_image

logger = logging.getLogger(__name__)

TOLERANCE = 1e-5
"""The largest cosine distance between a vector of a float32 file and that of torch."""
MEDIAN_IN_8_BITS = 0.1
"""The largest median of these distances in 8 bits; beyond it the vectors are of no use, whatever the data."""

_LENGTH = 1e-3  # of a vector, relative
_BATCHES = (1, 3, 8)  # a file may have taken the number of images of its example for a constant
_BATCH = 32


class Comparison(NamedTuple):
    """How far the vectors of a file are from those of torch.

    Attributes:
        images: how many were compared.
        largest: cosine distance.
        median: of the cosine distances.
        length: largest relative difference of the lengths of two vectors.
    """

    images: int
    largest: float
    median: float
    length: float

    def __str__(self) -> str:
        return f"{self.images} images: cosine distance to torch at most {self.largest:.2g}, median {self.median:.2g}"


def check_export(path: Path, export: Export, pixels: Tensor | None = None) -> Comparison:
    """Embed images by the file and by torch, one image at once and several.

    Args:
        path: of the file.
        export: what was exported.
        pixels: (N, 3, H, W) uint8 real images; None = random ones, of which a file in 8 bits can say nothing.

    Raises:
        ReidError: if the vectors differ.
    """
    comparison = _compare(path, export, _batches(export.model.preprocessing.size, pixels))
    if export.options.precision == "fp32":
        is_same = comparison.largest <= TOLERANCE and comparison.length <= _LENGTH  # False for NaN
        rule = f"be those of torch to a cosine distance of {TOLERANCE:g} and a length of {_LENGTH:g}"
        remedy = "no file was written; take another --format, and report this network"
    else:
        is_same = comparison.median <= MEDIAN_IN_8_BITS
        rule = f"be those of torch to a median cosine distance of {MEDIAN_IN_8_BITS}"
        remedy = "no file was written; give --int8 images like those that will be embedded, or leave it out"
    if not is_same:
        got = f"{comparison.largest:.2g} (median {comparison.median:.2g}) and {comparison.length:.2g}"
        raise ReidError(f"the vectors of the exported file must {rule}, got {got}; {remedy}")
    return comparison


def read_pixels(folder: Path, images: Preprocessing, count: int) -> Tensor:
    """Images of a folder and of the folders in it, (N, 3, H, W) uint8 at the size of the network.

    Args:
        folder: where they lie.
        images: of the network.
        count: at most so many, spread evenly over the folder; unreadable ones are named in the log and left out.

    Raises:
        ReidError: if there is none.
    """
    paths, transform = list_images(folder, subfolders=True).paths, TestTransform(images)
    pixels = []
    for path in paths[:: max(1, len(paths) // count)][:count]:
        try:
            pixels.append(transform(read_image(str(path))).image)
        except ReidError as error:  # noqa: PERF203 (decoding is what takes the time)
            logger.warning("%s", error)
    if not pixels:
        raise ReidError(f"none of the images in {folder} could be read; see the messages above")
    return torch.stack(pixels)


@torch.inference_mode()
def _compare(path: Path, export: Export, batches: Iterator[Tensor]) -> Comparison:
    model = prepare(open_exported(path, Settings({}, {})), "cpu", "auto", None)
    embed = build(model.source, model.plans[0])
    reference = Embedder(export.model.network, torch.device("cpu"), layout="contiguous")
    normalize = NetworkInput(replace(export.model.preprocessing, scale=1))  # low resolution is no part of the file
    distances, lengths = [], []
    for batch in batches:
        images = normalize(batch)
        own, other = _vectors(embed, images).double(), reference(images).double()
        if own.shape != other.shape:
            raise ReidError(f"the exported file must give {tuple(other.shape)} vectors, got {tuple(own.shape)}")
        distances.append(1 - torch.cosine_similarity(own, other))
        length = 1.0 if export.options.unit else other.norm(dim=1)
        lengths.append((own.norm(dim=1) / length - 1).abs())
    distance = torch.cat(distances)
    return Comparison(len(distance), float(distance.max()), float(distance.median()), float(torch.cat(lengths).max()))


def _vectors(embed: Embed, images: Tensor) -> Tensor:
    """By the file.

    Raises:
        ReidError: if the library of the file refuses so many images.
    """
    try:
        return embed(images)
    except Exception as error:  # each library has errors of its own
        reason = one_line(error)[:300]
        raise ReidError(
            f"the exported file must take any number of images, but fails with {len(images)}: {reason}; no file was "
            "written; report this network"
        ) from error


def _batches(size: tuple[int, int], pixels: Tensor | None) -> Iterator[Tensor]:
    """(N, 3, H, W) uint8."""
    generator = torch.Generator().manual_seed(0)
    for count in _BATCHES:
        if pixels is None:
            yield torch.randint(256, (count, 3, *size), dtype=torch.uint8, generator=generator)
        else:
            yield pixels[:count]
    if pixels is not None:
        yield from torch.split(pixels, _BATCH)
