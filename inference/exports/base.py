"""What a format of exported files is, and what it writes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from engine.model import TrainedModel
from inference.engines import absent
from inference.exports.inputs import INPUTS
from modelling.onnx_export import to_onnx
from utils.errors import ReidError, lookup

_OF_QUANTIZATION = ("onnx", "onnxruntime")  # whatever the format: the ONNX file is quantized


@dataclass(frozen=True)
class ExportOptions:
    """How a network becomes a file.

    Attributes:
        input: one of :data:`inference.exports.inputs.INPUTS`.
        unit: scale the vectors to length 1.
        calibration: (N, 3, H, W) uint8 images by which values are quantized to 8 bits; None = float32.

    Raises:
        ReidError: for an unknown input.
    """

    input: str = "normalized"
    unit: bool = False
    calibration: Tensor | None = None

    def __post_init__(self) -> None:
        lookup(INPUTS, self.input, "--input")

    @property
    def precision(self) -> str:
        """In which the file computes."""
        return "fp32" if self.calibration is None else "int8"


class Export:
    """A trained model and how it becomes a file.

    Args:
        model: stays as it is.
        options: see there.
    """

    def __init__(self, model: TrainedModel, options: ExportOptions) -> None:
        self.model, self.options = model, options
        self.input = INPUTS[options.input]

    @cached_property
    def float_onnx(self) -> bytes:
        """The content of an ONNX file in float32."""
        images = self.model.preprocessing
        entry, example = self.input.entry(images), self.input.feed(torch.zeros(2, 3, *images.size), images)
        return to_onnx(self.model.network, images.size, entry=entry, example=example, unit=self.options.unit)

    @cached_property
    def onnx(self) -> bytes:
        """The content of an ONNX file in the precision of the options."""
        if self.options.calibration is None:
            return self.float_onnx
        from inference.exports.quantization import quantize

        return quantize(self.float_onnx, self.options.calibration, self.input, self.model.preprocessing)


@dataclass(frozen=True)
class Format:
    """A kind of exported file.

    Attributes:
        write: writes its files into a folder; imports its libraries.
        files: their names; the first one is opened, the others lie beside it.
        engines: of :data:`inference.engines.ENGINES`, those that compute the file, the usual one first; empty =
            weights, which :func:`engine.model.load_model` opens, and which ``write`` compares itself.
        libraries: that writing and checking need, by the name that pip and ``import`` share.
    """

    write: Callable[[Export, Path], None]
    files: tuple[str, ...]
    engines: tuple[str, ...]
    libraries: tuple[str, ...]

    def check_libraries(self, name: str, *, in_8_bits: bool = False) -> None:
        """Refuse to write without them.

        Args:
            name: of the format.
            in_8_bits: the file is quantized.

        Raises:
            ReidError: naming those that are missing.
        """
        libraries, option = self.libraries, f"--format {name}"
        if in_8_bits:
            libraries, option = (*libraries, *_OF_QUANTIZATION), f"{option} --int8"
        if missing := absent(dict.fromkeys(libraries)):
            raise ReidError(f"{option} needs libraries that are not installed: pip install {' '.join(missing)}")
