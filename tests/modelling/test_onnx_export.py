import pytest

from modelling.backbones import backbone
from modelling.network import ReidNetwork
from modelling.onnx_export import INPUT, OUTPUT, to_onnx


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
