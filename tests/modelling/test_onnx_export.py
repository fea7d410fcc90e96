import pytest
from torch import Tensor, nn

from modelling.backbones import backbone
from modelling.network import ReidNetwork
from modelling.onnx_export import INPUT, OUTPUT, to_onnx
from utils.errors import ReidError


def test_the_graph_has_one_input_of_any_batch_and_one_output() -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    network = ReidNetwork(backbone("osnet_x0_25").build(input_size=(64, 32))).train()
    graph = onnx.load_from_string(to_onnx(network, (64, 32))).graph
    assert network.training  # the network itself stays as it is
    (images,), (vectors,) = graph.input, graph.output
    assert (images.name, vectors.name) == (INPUT, OUTPUT)
    batch, *rest = images.type.tensor_type.shape.dim
    assert batch.dim_param
    assert [dim.dim_value for dim in rest] == [3, 64, 32]
    assert vectors.type.tensor_type.shape.dim[1].dim_value == network.dim


def test_a_network_that_torch_cannot_convert_is_one_line() -> None:
    pytest.importorskip("onnxscript")

    class Odd(nn.Module):
        """Looks at values."""

        out_channels = 3

        def forward(self, images: Tensor) -> Tensor:
            return images if float(images.sum()) > 0 else -images

    with pytest.raises(ReidError, match=r"^torch cannot convert this network to ONNX: .+; embed with engine torch$"):
        to_onnx(ReidNetwork(Odd()), (8, 4))
