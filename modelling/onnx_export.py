"""A network as ONNX, which other engines compute."""

import io
import warnings
from contextlib import redirect_stdout

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelling.deployment import Embedder
from modelling.network import ReidNetwork

INPUT, OUTPUT = "images", "embedding"
"""Names in the graph."""

OPSET = 18
_LARGEST_BATCH = 2**16


class _Vectors(nn.Module):
    """The network with one output, the vectors that retrieval compares."""

    def __init__(self, network: ReidNetwork, entry: nn.Module, *, unit: bool) -> None:
        super().__init__()
        self.network, self.entry, self._unit = network, entry, unit

    def forward(self, images: Tensor) -> Tensor:
        vectors = self.network.embed(self.entry(images))
        return F.normalize(vectors) if self._unit else vectors


def to_onnx(
    network: ReidNetwork,
    size: tuple[int, int],
    *,
    entry: nn.Module | None = None,
    example: Tensor | None = None,
    unit: bool = False,
) -> bytes:
    """The content of an ONNX file (opset 18) that embeds as the network does in float32.

    The graph has one input ``images``, by default (N, 3, H, W) float32 and normalized, with any N, and one output
    ``embedding``, (N, D) float32. Batch normalizations are folded. The function needs the libraries onnx and
    onnxscript.

    Args:
        network: stays as it is. If it knows cameras, those of the images count as unknown.
        size: H and W.
        entry: from the input of the graph to normalized images; None = they are its input.
        example: an input of the graph, of more than one image: torch takes a batch of one for a constant.
        unit: scale the vectors to length 1.
    """
    embedder = Embedder(network, torch.device("cpu"), layout="contiguous")
    module = _Vectors(embedder.network, entry or nn.Identity(), unit=unit).eval()
    images = torch.zeros(2, 3, *size) if example is None else example
    batch = torch.export.Dim("batch", min=1, max=_LARGEST_BATCH)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):  # the exporter reports its steps
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (images,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamic_shapes=({0: batch},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content
