import copy

import pytest
import torch
from torch import nn

from benchmarks.embedding import bare_network, make_model
from engine import build
from engine.cli import Settings
from inference.extract import Extractor
from inference.fusion import fold_batch_norms


@pytest.mark.parametrize(("name", "left"), [("resnet18", 0), ("resnet50", 0), ("resnet50_ibn_a", 13)])
def test_the_folded_network_computes_the_same(name: str, left: int) -> None:
    torch.manual_seed(0)
    values = {"MODEL.NAME": name, "MODEL.PRETRAINED": False, "INPUT.SIZE_TEST": [64, 32]}
    backbone = build.build_extractor(Settings({}, values).resolve()).backbone
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after training
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.0)
            for tensor in (module.bias, module.running_mean):
                nn.init.uniform_(tensor, -0.2, 0.2)
    backbone.eval()
    folded = copy.deepcopy(backbone)
    fold_batch_norms(folded)
    images = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        expected, found = backbone(images), folded(images)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules()) == left


def test_the_benchmark_runs_the_network_of_the_extractor() -> None:
    """Its bare network is folded in 16 bits as the Extractor's, or the comparison would flatter."""
    bare, ours = make_model("resnet18"), make_model("resnet18")
    bare_network(bare, "bf16", 2, torch.device("cpu"))(2)
    extractor = Extractor(ours, "cpu", 2, "bf16")
    for network in (bare.network, extractor._network):
        assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert [str(p.dtype) for p in bare.network.parameters()] == [str(p.dtype) for p in ours.network.parameters()]
