"""OpenVINO's own form, which it reads faster than ONNX."""

from pathlib import Path

from inference.exports.base import Export, Format

_GRAPH, _WEIGHTS = "model.xml", "model.bin"


def _write(export: Export, folder: Path) -> None:
    import openvino

    model = openvino.Core().read_model(export.onnx, b"")
    openvino.save_model(model, folder / _GRAPH, compress_to_fp16=False)


OPENVINO = Format(_write, (_GRAPH, _WEIGHTS), ("openvino",), ("openvino", "onnx", "onnxscript"))
