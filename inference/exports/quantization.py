"""An ONNX file in 8 bits: the range of each value is measured on images of the user (static quantization)."""

import io
import logging
import tempfile
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.preprocessing import Preprocessing
from datasets.transforms import NetworkInput
from inference.exports.inputs import Input
from modelling.onnx_export import INPUT

_BATCH = 8  # images that are measured at once; bounds the memory


class _Images:
    """The batches of the calibration, as onnxruntime asks for them."""

    def __init__(self, pixels: Tensor, file_input: Input, images: Preprocessing) -> None:
        normalize = NetworkInput(replace(images, scale=1))
        self._inputs = (file_input.feed(normalize(batch), images).numpy() for batch in torch.split(pixels, _BATCH))

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next input of the file; None at the end."""
        batch = next(self._inputs, None)
        return None if batch is None else {INPUT: batch}


def quantize(content: bytes, pixels: Tensor, file_input: Input, images: Preprocessing) -> bytes:
    """Quantize weights and activations to 8 bits; input and output stay as they are.

    Weights have a scale for each output channel. What the file does with its input before the network, and the
    vectors after it, stays in float32.

    Args:
        content: of an ONNX file in float32.
        pixels: (N, 3, H, W) uint8 images like those that the file will embed.
        file_input: what the file takes.
        images: of the network.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    level = logging.getLogger().level
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):  # they report their steps
        float_file, simplified, result = (Path(folder, name) for name in ("float.onnx", "simple.onnx", "int8.onnx"))
        float_file.write_bytes(content)
        logging.getLogger().setLevel(logging.ERROR)
        try:
            quant_pre_process(str(float_file), str(simplified), skip_symbolic_shape=True)
            quantize_static(
                str(simplified),
                str(result),
                _Images(pixels, file_input, images),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        finally:
            logging.getLogger().setLevel(level)
        return result.read_bytes()
