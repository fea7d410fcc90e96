"""A network as ONNX, which other engines compute."""

import io
import warnings
from contextlib import redirect_stdout

import torch
from torch import Tensor, nn

from modelling.deployment import Embedder
from modelling.network import ReidNetwork

INPUT, OUTPUT = "images", "vectors"
"""Names in the graph."""

_OPSET = 18
_LARGEST_BATCH = 2**16


class _Vectors(nn.Module):
    """The network with one output, the vectors that retrieval compares."""

    def __init__(self, network: ReidNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.embed(images)


def to_onnx(network: ReidNetwork, size: tuple[int, int]) -> bytes:
    """The content of an ONNX file (opset 18) that embeds as the network does in float32.

    The graph has one input ``images``, (N, 3, H, W) float32 and normalized, with any N, and one output ``vectors``,
    (N, D) float32. Batch normalizations are folded. The function needs the libraries onnx and onnxscript.

    Args:
        network: stays as it is.
        size: H and W.
    """
    module = _Vectors(Embedder(network, torch.device("cpu"), layout="contiguous").network).eval()
    images = torch.zeros(2, 3, *size)  # torch takes a batch of one for a constant
    batch = torch.export.Dim("batch", min=1, max=_LARGEST_BATCH)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):  # the exporter reports its steps
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (images,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=_OPSET,
            dynamic_shapes=({0: batch},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content
