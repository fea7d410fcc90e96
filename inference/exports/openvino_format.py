"""OpenVINO's own form, which it reads faster than ONNX."""

import shutil
import tempfile
from pathlib import Path

from inference.exports.base import Export, Format

_GRAPH, _WEIGHTS = "model.xml", "model.bin"


def _write(export: Export, folder: Path) -> None:
    import openvino

    model = openvino.Core().read_model(export.onnx, b"")
    with tempfile.TemporaryDirectory() as scratch:  # the library takes no path that is not UTF-8
        openvino.save_model(model, Path(scratch, _GRAPH), compress_to_fp16=False)
        for name in (_GRAPH, _WEIGHTS):
            shutil.move(Path(scratch, name), folder / name)


OPENVINO = Format(_write, (_GRAPH, _WEIGHTS), ("openvino",), ("openvino", "onnx", "onnxscript"))
