import copy

import pytest
import torch
from torch import nn

from engine import build
from engine.cli import Settings
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
