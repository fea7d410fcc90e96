"""What a run starts from: files of other projects, and classifier and centers of one's own."""

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from configs import get_cfg, to_yaml, with_values
from engine import run
from engine.builders.model import build_network
from engine.checkpoint import SECTION, Checkpoint, RunCard, read_checkpoint, section
from engine.cli import parse
from engine.methods import BASELINE
from engine.settings import Settings
from engine.weights import initialize, initialize_objective, open_weights
from losses.center import CenterLoss
from losses.identity import IdentityLoss
from losses.objectives import Objective, Term
from modelling.backbones import backbone
from modelling.network import ReidNetwork
from modelling.weights.foreign import recognize
from modelling.weights.weights import Weights
from utils.errors import ReidError

REPOSITORY = Path(__file__).resolve().parents[2]


def objective(num_ids: int = 5) -> Objective:
    return Objective([
        Term("identity", IdentityLoss(num_ids, 4), 1.0, "bn"),
        Term("center", CenterLoss(num_ids, 4), 0.5, "raw"),
    ])  # fmt: skip


def checkpoint_of(losses: nn.Module, data: str) -> Checkpoint:
    state = {f"objective.{name}": tensor for name, tensor in losses.state_dict().items()}
    card = RunCard(to_yaml(get_cfg()), "people", 5, 1, "baseline", data)
    return read_checkpoint(Path("a.pth"), {SECTION: section(card, 0, (1, 0), 1), "state_dict": state})


def names_filled(losses: Objective, weights: Weights | None, data: str) -> set[str]:
    """Names of the tensors that the file has filled; all others are as they were."""
    before = {name: tensor.clone() for name, tensor in losses.state_dict().items()}
    initialize_objective(losses, weights, data)
    after = losses.state_dict()
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    if isinstance(weights, Checkpoint):
        assert all(torch.equal(after[name], weights.objective[name]) for name in changed)
    return changed


def test_classifier_and_centers_of_the_same_people_go_on(caplog: pytest.LogCaptureFixture) -> None:
    names = {"terms.identity.classifier.weight", "terms.center.centers"}
    with caplog.at_level(logging.INFO):
        assert names_filled(objective(), checkpoint_of(objective(), "d1"), "d1") == names
        assert len(caplog.messages) == 2
        caplog.clear()
        alone = Objective([Term("identity", IdentityLoss(5, 4), 1.0, "bn")])
        assert names_filled(objective(), checkpoint_of(alone, "d1"), "d1") == {"terms.identity.classifier.weight"}
        assert "terms.center.centers is re-initialized" in caplog.text


@pytest.mark.parametrize(
    ("weights", "count"),
    [
        (checkpoint_of(objective(), "d2"), 2),
        (checkpoint_of(objective(), ""), 2),  # an old checkpoint, which does not say
        (checkpoint_of(objective(7), "d1"), 2),
        (None, 0),
    ],
)
def test_those_of_others_are_left(weights: Checkpoint | None, count: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert names_filled(objective(), weights, "d1") == set()
    assert caplog.text.count("re-initialized") == count


def start(arguments: list[str]) -> ReidNetwork:
    """The network of a training before its first step."""
    settings = parse(arguments)
    weights = open_weights(settings)
    cfg = settings.for_training(BASELINE, weights, resume=False)
    network = build_network(cfg)
    initialize(network, cfg, weights)
    return network


def ctl_file(**more: object) -> Weights:
    base = backbone("resnet50_ibn_a").build().base.state_dict()
    state: dict[str, Tensor] = {f"backbone.base.{name}": tensor for name, tensor in base.items()}
    state |= {f"bn.{name}": tensor for name, tensor in nn.BatchNorm1d(2048).state_dict().items()}
    weights = recognize({"state_dict": {**state, "fc_query.weight": torch.ones(7, 2048)}, **more}, Path("ibn.ckpt"))
    assert weights is not None
    return weights


def test_an_ibn_network_without_its_size_is_pointed_to_the_configuration(caplog: pytest.LogCaptureFixture) -> None:
    weights = ctl_file()
    assert Settings({}, {}).for_training(BASELINE, weights, resume=False).INPUT.SIZE_TEST == [256, 128]
    assert "trained at 320 x 320 (--config_file configs/320_resnet50_ibn_a.yml)" in caplog.text
    caplog.clear()
    settings = parse(["--config_file", str(REPOSITORY / "configs/320_resnet50_ibn_a.yml")])
    assert settings.for_training(BASELINE, weights, resume=False).INPUT.SIZE_TEST == [320, 320]
    assert caplog.text == ""


def test_the_size_in_the_settings_of_a_file_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    weights = ctl_file(hyper_parameters={"INPUT": {"SIZE_TEST": [320, 320], "SIZE_TRAIN": [320, 320]}})
    cfg = Settings({}, {}).for_training(BASELINE, weights, resume=False)
    assert (cfg.INPUT.SIZE_TRAIN, cfg.INPUT.SIZE_TEST) == ([320, 320], [320, 320])
    assert caplog.text == ""


def test_a_vision_transformer_starts_from_a_local_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    timm = pytest.importorskip("timm")
    file = timm.create_model("test_vit", pretrained=False).state_dict()
    torch.save(file, tmp_path / "vit.pth")
    network = start(["MODEL.NAME", "timm:test_vit", "MODEL.PRETRAIN_PATH", str(tmp_path / "vit.pth")])
    state = network.backbone.base.state_dict()
    assert state["pos_embed"].shape == (1, 1 + 16 * 8, 64)
    assert torch.equal(state["pos_embed"][:, 0], file["pos_embed"][:, 0])
    assert torch.equal(state["blocks.0.attn.qkv.weight"], file["blocks.0.attn.qkv.weight"])
    assert "timm:test_vit were trained with INPUT.PIXEL_MEAN [0.5, 0.5, 0.5]" in caplog.text


def test_an_osnet_of_imagenet_trains_but_is_not_tested(tiny_arguments: list[str], tmp_path: Path) -> None:
    block = {"fc.0.weight": torch.ones(512, 128), "fc.1.weight": torch.ones(512)}
    base = backbone("osnet_x0_25").build().base.state_dict()
    torch.save({**base, **block, "classifier.weight": torch.ones(1000, 512)}, tmp_path / "imagenet.pth")
    path = ["MODEL.PRETRAIN_PATH", str(tmp_path / "imagenet.pth")]
    with pytest.raises(ReidError, match=r"test needs .* a trained model, got .*holds a backbone of .*ImageNet"):
        run.evaluate(parse([*tiny_arguments, *path]))
    for head in ("bnneck", "projection"):
        network = start([*tiny_arguments, *path, "MODEL.HEAD", head])
        assert torch.equal(network.backbone.base.conv1.conv.weight, base["conv1.conv.weight"])


def test_a_local_ibn_file_starts_a_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The file tells its network."""
    file = backbone("resnet50_ibn_a").build().base.state_dict()
    torch.save({**file, "fc.weight": torch.ones(1000, 2048)}, tmp_path / "ibn.pth")
    with caplog.at_level(logging.INFO):
        network = start(["MODEL.PRETRAIN_PATH", str(tmp_path / "ibn.pth")])
    state = network.backbone.base.state_dict()
    assert [name for name, tensor in file.items() if not torch.equal(tensor, state[name])] == []
    assert "left out: fc.weight" in caplog.text


def test_the_images_behind_a_moco_snapshot_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = backbone("resnet18").build().base.state_dict()
    encoders = {f"module.encoder_{letter}.{name}": tensor for letter in "qk" for name, tensor in base.items()}
    torch.save({"state_dict": encoders}, tmp_path / "moco.pth")
    start(["MODEL.PRETRAIN_PATH", str(tmp_path / "moco.pth")])
    assert "LUPerson (MoCo) were trained with INPUT.PIXEL_MEAN [0.3525, 0.3106, 0.314]" in caplog.text
    caplog.clear()
    images = ("INPUT.PIXEL_MEAN", "[0.3525,0.3106,0.314]", "INPUT.PIXEL_STD", "[0.266,0.2522,0.2505]")
    start(["MODEL.PRETRAIN_PATH", str(tmp_path / "moco.pth"), *images])
    assert "were trained with" not in caplog.text


def test_a_gem_of_negative_values_is_told(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("timm")
    size = {"INPUT.SIZE_TEST": [64, 32], "MODEL.POOLING": "gem"}
    for name in ("resnet18", "osnet_x0_25", "timm:resnet18"):
        build_network(with_values(get_cfg(), {"MODEL.NAME": name, **size}))
    assert caplog.text == ""
    build_network(with_values(get_cfg(), {"MODEL.NAME": "timm:convnext_atto", **size}))
    assert "MODEL.POOLING gem" in caplog.text
    assert "avg and max use them" in caplog.text
