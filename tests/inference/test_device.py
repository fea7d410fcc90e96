import copy

import pytest
import torch
from torch import nn

from benchmarks.embedding import bare_network, make_model
from engine.builders.model import build_network
from engine.settings import Settings
from inference import device
from inference.device import choose_device, choose_precision, decoding_workers, fold_batch_norms
from inference.extract import Extractor
from modelling.backbones import BACKBONES


@pytest.mark.parametrize(("name", "left"), [("resnet18", 0), ("resnet50", 0), ("resnet50_ibn_a", 13)])
def test_the_folded_network_computes_the_same(name: str, left: int) -> None:
    torch.manual_seed(0)
    values = {"MODEL.NAME": name, "MODEL.PRETRAINED": False, "INPUT.SIZE_TEST": [64, 32]}
    backbone = build_network(Settings({}, values).cfg).backbone
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
        expected, output = backbone(images), folded(images)
    torch.testing.assert_close(output, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules()) == left


def test_the_benchmark_runs_the_network_of_the_extractor() -> None:
    """Its bare network is folded in 16 bits as the Extractor's, or the comparison would flatter."""
    bare, ours = make_model("resnet18"), make_model("resnet18")
    bare_network(bare, "bf16", 2, torch.device("cpu"))(2)
    Extractor(ours, "cpu", 2, "bf16")  # prepares the network in place
    for network in (bare.network, ours.network):
        assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert [str(p.dtype) for p in bare.network.parameters()] == [str(p.dtype) for p in ours.network.parameters()]


def test_auto_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    resnet, osnet = BACKBONES["resnet50_ibn_a"], BACKBONES["osnet_x0_25"]
    for able, precision in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda able=able: able, raising=False)
        assert choose_precision("auto", cpu, resnet) == precision
    assert choose_precision("auto", cuda, resnet) == "fp16"
    assert choose_precision("auto", cpu, osnet) == choose_precision("auto", cuda, osnet) == "fp32"
    assert choose_precision("bf16", cpu, osnet) == "bf16"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("cores", "beside_cpu", "beside_gpu"), [(1, 0, 1), (3, 0, 3), (4, 1, 4), (16, 4, 16), (64, 16, 16)]
)
def test_decoding_takes_few_of_the_cores_that_compute(
    cores: int, beside_cpu: int, beside_gpu: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "usable_cpus", lambda: cores)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert decoding_workers(torch.device("cpu")) == beside_cpu
    assert decoding_workers(torch.device("cuda")) == beside_gpu
