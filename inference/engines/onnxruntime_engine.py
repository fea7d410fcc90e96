"""ONNX Runtime computes, on the CPU."""

import torch
from torch import Tensor

from inference.engines.base import Embed, Engine, Plan, Source
from modelling.onnx_export import INPUT, OUTPUT


def _build(source: Source, plan: Plan) -> Embed:  # noqa: ARG001 (it has one plan)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.set_denormal_as_zero", "1")  # see utils.cpu.flush_subnormals
    session = onnxruntime.InferenceSession(source.graph, options, providers=["CPUExecutionProvider"])

    def embed(images: Tensor) -> Tensor:
        (vectors,) = session.run([OUTPUT], {INPUT: source.feed(images).numpy()})
        return torch.from_numpy(vectors)

    return embed


ONNXRUNTIME = Engine(_build, ("fp32",), libraries=("onnxruntime", "onnx", "onnxscript"))
