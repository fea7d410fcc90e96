"""Formats of exported files, by name."""

from inference.exports.base import Export, ExportOptions, Format
from inference.exports.onnx_format import ONNX
from inference.exports.openvino_format import OPENVINO
from inference.exports.safetensors_format import SAFETENSORS

__all__ = ["CARD", "FORMATS", "Export", "ExportOptions", "Format"]

CARD = "model.json"
"""Lies beside an exported file, and has the name of that file with another ending."""

FORMATS: dict[str, Format] = {"onnx": ONNX, "openvino": OPENVINO, "safetensors": SAFETENSORS}
"""--format -> what it writes."""
