"""OpenVINO computes, on the CPU."""

import torch
from torch import Tensor

from inference.engines.base import Embed, Engine, Plan, Source

_HINTS = {"fp32": "f32", "bf16": "bf16"}  # without one OpenVINO takes bf16 wherever the CPU multiplies it


def _build(source: Source, plan: Plan) -> Embed:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(source.graph, source.weights),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": _HINTS.get(plan.precision, "f32"),  # of an exported file: 8 bits stay 8
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, on all threads
            "CPU_DENORMALS_OPTIMIZATION": True,  # see utils.cpu.flush_subnormals
        },
    )

    def embed(images: Tensor) -> Tensor:
        return torch.from_numpy(compiled(source.feed(images).numpy())[0])

    return embed


OPENVINO = Engine(_build, tuple(_HINTS), libraries=("openvino", "onnx", "onnxscript"))
