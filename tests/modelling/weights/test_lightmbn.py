"""LightMBN against a plain computation: three whole OSNets that share their first layers, and pooling by hand."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from engine.model import load_model
from engine.settings import Settings
from modelling.backbones import backbone
from modelling.backbones.osnet import OmniScaleBlock
from modelling.heads import HEADS, AveragePooling
from modelling.network import ReidNetwork
from modelling.weights.foreign import recognize
from tests.modelling.weights.support import State, under
from utils.errors import ReidError

BRANCHES = ("global_branch", "partial_branch", "channel_branch")
LAST = {"conv3.1.": "0.1.", "conv3.2.": "0.2.", "conv4.": "1.", "conv5.": "2."}
NECKS = (
    "reduction_0",
    "reduction_4",
    "reduction_1",
    "reduction_2",
    "reduction_3",
    "reduction_ch_0",
    "reduction_ch_1",
)


def with_statistics(module: nn.Module) -> nn.Module:
    for tensor in module.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.copy_(torch.rand_like(tensor) + 0.2)
    return module.eval()


def file_and_vector(images: Tensor) -> tuple[State, Tensor]:
    """A file with random weights, and the seven parts (N, 7, 512) by hand, each with length 1."""
    nets = [with_statistics(backbone("osnet_x1_0").build()) for _ in BRANCHES]
    first = {"conv1.": "backone.0.", "conv2.": "backone.2.", "conv3.0.": "backone.3."}
    state: State = {}
    for branch, net in zip(BRANCHES, nets, strict=True):
        for name, tensor in net.base.state_dict().items():
            if shared := next((old for old in first if name.startswith(old)), ""):
                tensor.copy_(nets[0].base.state_dict()[name])
                state[first[shared] + name.removeprefix(shared)] = tensor
            else:
                old = next(old for old in LAST if name.startswith(old))
                state[f"{branch}.{LAST[old]}{name.removeprefix(old)}"] = tensor
    block = with_statistics(OmniScaleBlock(512, 512))
    state |= under("batch_drop_block.drop_batch_bottleneck.", block.state_dict())
    bns = [with_statistics(nn.BatchNorm1d(512)) for _ in range(8)]
    for neck, bn in zip(NECKS, bns[:7], strict=True):
        state |= under(f"{neck}.bn.", bn.state_dict()) | {f"{neck}.classifier.weight": torch.ones(5, 512)}
        if "_ch_" not in neck:
            state[f"{neck}.reduction.weight"] = torch.randn(512, 512, 1, 1)
    shared_weight = torch.randn(512, 256, 1, 1)
    state |= {"shared.0.weight": shared_weight, **under("shared.1.", bns[7].state_dict())}
    with torch.inference_mode():
        whole, partial, channel = (net(images) for net in nets)
        whole, middle = block(whole), partial.shape[2] // 2
        pooled = [
            whole.mean((2, 3)), whole.amax((2, 3)), partial.amax((2, 3)),
            partial[:, :, :middle].mean((2, 3)), partial[:, :, middle:].mean((2, 3)),
        ]  # fmt: skip
        raw = [
            pool @ state[f"{neck}.reduction.weight"][:, :, 0, 0].T for pool, neck in zip(pooled, NECKS, strict=False)
        ]
        means = channel.mean((2, 3))
        raw += [bns[7](half @ shared_weight[:, :, 0, 0].T).relu() for half in (means[:, :256], means[:, 256:])]
        parts = torch.stack([bn(part) for bn, part in zip(bns[:7], raw, strict=True)], dim=1)
    return state, parts / parts.norm(dim=2, keepdim=True)


def test_a_file_gives_the_vector_of_a_plain_computation(tmp_path: Path) -> None:
    images = torch.rand(2, 3, 128, 64)
    state, expected = file_and_vector(images)
    torch.save({"state_dict": under("module.", state), "epoch": 3}, tmp_path / "lmbn_n_market.pt")
    model = load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(tmp_path / "lmbn_n_market.pt")}))
    with torch.inference_mode():
        ours = model.network.embed(images)
    assert model.preprocessing.size == (384, 128)
    assert ours.shape == (2, 3584)
    assert torch.allclose(ours, expected.flatten(1), atol=1e-5)


def test_a_file_without_a_layer_names_it() -> None:
    state, _ = file_and_vector(torch.rand(1, 3, 64, 32))
    del state["reduction_4.reduction.weight"]
    weights = recognize(state, Path("a.pt"))
    assert weights is not None
    body = backbone("osnet_x1_0").build()
    with pytest.raises(ReidError, match=r"head\.linears\.1\.weight is missing"):
        weights.fill(ReidNetwork(body, HEADS["lmbn"](body, AveragePooling, 0)))


def test_all_branches_begin_as_the_last_layers_of_an_osnet() -> None:
    donor = with_statistics(backbone("osnet_x0_25").build())
    body = backbone("osnet_x0_25").build()
    network = ReidNetwork(body, HEADS["lmbn"](body, AveragePooling, 0)).eval()
    weights = recognize({**donor.base.state_dict(), "classifier.weight": torch.ones(1000, 512)}, Path("a.pth"))
    assert weights is not None
    weights.fill(network)
    images = torch.rand(2, 3, 64, 32)
    with torch.inference_mode():
        for name in ("global", "partial", "channel"):
            assert torch.equal(network.head.branches[name](network.backbone(images)), donor(images))


def test_training_leaves_out_the_strongest_rows_and_learns() -> None:
    body = backbone("osnet_x0_25").build()
    network = ReidNetwork(body, HEADS["lmbn"](body, AveragePooling, 0)).train()
    features = network(torch.rand(4, 3, 96, 32))
    features.bn.square().sum().backward()
    frozen = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert frozen == {"head.bn.bias"}
    feature_map = torch.ones(1, 2, 6, 2)
    feature_map[0, :, (1, 4)] = 2
    dropped = network.head._without_top(feature_map)[0, 0, :, 0]
    assert dropped.tolist() == [1, 0, 1, 1, 0, 1]


def test_the_head_refuses_other_networks_and_dimensions() -> None:
    with pytest.raises(ReidError, match=r"MODEL.HEAD lmbn needs an OSNet"):
        HEADS["lmbn"](backbone("resnet18").build(), AveragePooling, 0)
    with pytest.raises(ReidError, match=r"leave it at 0"):
        HEADS["lmbn"](backbone("osnet_x0_25").build(), AveragePooling, 64)
