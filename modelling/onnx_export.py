"""A network as ONNX, which other engines compute."""

import io
import warnings
from contextlib import redirect_stdout
from keyword import iskeyword

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from modelling.deployment import Embedder
from modelling.network import ReidNetwork
from utils.errors import ReidError, one_line

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


class _SafeNames(nn.ModuleDict):
    """Modules under names that are no words of Python: torch.export writes them as attributes into code."""

    def __init__(self, modules: nn.ModuleDict) -> None:
        super().__init__({f"{name}_": module for name, module in modules.items()})

    def __getitem__(self, key: str) -> nn.Module:
        return super().__getitem__(f"{key}_")


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

    Raises:
        ReidError: if torch cannot convert the network.
    """
    copy = Embedder(network, torch.device("cpu"), layout="contiguous").network
    for name, part in list(copy.named_modules()):
        if isinstance(part, nn.ModuleDict) and any(map(iskeyword, part)):
            copy.set_submodule(name, _SafeNames(part))
    module = _Vectors(copy, entry or nn.Identity(), unit=unit).eval()
    images = torch.zeros(2, 3, *size) if example is None else example
    batch = torch.export.Dim("batch", min=1, max=_LARGEST_BATCH)
    plain = sdpa_kernel(SDPBackend.MATH)  # of a fused attention with a mask the exporter mistakes the order in memory
    with plain, warnings.catch_warnings(), redirect_stdout(io.StringIO()):  # the exporter reports its steps
        warnings.simplefilter("ignore")
        try:
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
        except torch.onnx.OnnxExporterError as error:
            reason = one_line(error.__cause__ or error)[:300]
            raise ReidError(
                f"torch cannot convert this network to ONNX: {reason}; embed with engine torch"
            ) from error
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content
