"""ONNX: for ONNX Runtime, TensorRT, OpenVINO, OpenCV and trackers."""

from pathlib import Path

from inference.exports.base import Export, Format

_FILE = "model.onnx"


def _write(export: Export, folder: Path) -> None:
    (folder / _FILE).write_bytes(export.onnx)


ONNX = Format(_write, (_FILE,), ("onnxruntime", "openvino"), ("onnx", "onnxscript", "onnxruntime"))
