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
from modelling.weights.foreign import recognize
from modelling.weights.weights import Weights
from utils.errors import ReidError

REPOSITORY = Path(__file__).resolve().parents[2]


def parsed(*arguments: str) -> Settings:
    return parse(list(arguments))


def objective(num_ids: int = 5) -> Objective:
    return Objective([
        Term("identity", IdentityLoss(num_ids, 4), 1.0, "bn"),
        Term("center", CenterLoss(num_ids, 4), 0.5, "raw"),
    ])  # fmt: skip


def checkpoint_of(trained: nn.Module, data: str) -> Checkpoint:
    state = {f"objective.{name}": tensor for name, tensor in trained.state_dict().items()}
    card = RunCard(to_yaml(get_cfg()), "people", 5, 1, "baseline", data)
    return read_checkpoint(Path("a.pth"), {SECTION: section(card, 0, (1, 0), 1), "state_dict": state})


def taken_over(fresh: Objective, weights: Weights | None, data: str) -> set[str]:
    """Names of the tensors that the file has filled; all others are as they were."""
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    initialize_objective(fresh, weights, data)
    after = fresh.state_dict()
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    if isinstance(weights, Checkpoint):
        assert all(torch.equal(after[name], weights.objective[name]) for name in changed)
    return changed


def test_classifier_and_centers_of_the_same_people_go_on(caplog: pytest.LogCaptureFixture) -> None:
    names = {"terms.identity.classifier.weight", "terms.center.centers"}
    with caplog.at_level(logging.INFO):
        assert taken_over(objective(), checkpoint_of(objective(), "d1"), "d1") == names
        assert {record.getMessage() for record in caplog.records} == {f"{name} is that of the file" for name in names}
        caplog.clear()
        alone = Objective([Term("identity", IdentityLoss(5, 4), 1.0, "bn")])
        assert taken_over(objective(), checkpoint_of(alone, "d1"), "d1") == {"terms.identity.classifier.weight"}
        assert "terms.center.centers is re-initialized: identities differ" in caplog.text


@pytest.mark.parametrize(
    ("weights", "logged"),
    [
        (checkpoint_of(objective(), "d2"), 2),
        (checkpoint_of(objective(), ""), 2),  # an old checkpoint, which does not say
        (checkpoint_of(objective(7), "d1"), 2),
        (None, 0),
    ],
)
def test_those_of_others_are_left(weights: Checkpoint | None, logged: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert taken_over(objective(), weights, "d1") == set()
    assert caplog.text.count("re-initialized") == logged


def ctl_file(**more: object) -> Weights:
    base = backbone("resnet50_ibn_a").build().base.state_dict()
    state: dict[str, Tensor] = {f"backbone.base.{name}": tensor for name, tensor in base.items()}
    state |= {f"bn.{name}": tensor for name, tensor in nn.BatchNorm1d(2048).state_dict().items()}
    weights = recognize({"state_dict": {**state, "fc_query.weight": torch.ones(7, 2048)}, **more}, Path("ibn.ckpt"))
    assert weights is not None
    return weights


def test_an_ibn_network_without_its_size_is_pointed_to_the_configuration(caplog: pytest.LogCaptureFixture) -> None:
    silent = ctl_file()
    given = parsed()
    assert given.for_training(BASELINE, silent, resume=False).INPUT.SIZE_TEST == [256, 128]
    warning = "256 x 128 is taken, but CTL's IBN networks were trained at 320 x 320"
    assert f"ibn.ckpt does not tell its input size: {warning}" in caplog.text
    caplog.clear()
    given = parsed("--config_file", str(REPOSITORY / "configs/320_resnet50_ibn_a.yml"))
    assert given.for_training(BASELINE, silent, resume=False).INPUT.SIZE_TEST == [320, 320]
    assert caplog.text == ""


def test_the_size_in_the_settings_of_a_file_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    told = ctl_file(hyper_parameters={"INPUT": {"SIZE_TEST": [320, 320], "SIZE_TRAIN": [320, 320]}})
    cfg = parsed().for_training(BASELINE, told, resume=False)
    assert (cfg.INPUT.SIZE_TRAIN, cfg.INPUT.SIZE_TEST) == ([320, 320], [320, 320])
    assert caplog.text == ""


def test_a_vision_transformer_starts_from_a_local_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    timm = pytest.importorskip("timm")
    file = timm.create_model("test_vit", pretrained=False).state_dict()
    torch.save(file, tmp_path / "vit.pth")
    given = parsed("MODEL.NAME", "timm:test_vit", "MODEL.PRETRAIN_PATH", str(tmp_path / "vit.pth"))
    weights = open_weights(given)
    cfg = given.for_training(BASELINE, weights, resume=False)
    extractor = build_network(cfg)
    initialize(extractor, cfg, weights)
    filled = extractor.backbone.base.state_dict()
    assert filled["pos_embed"].shape == (1, 1 + 16 * 8, 64)
    assert torch.equal(filled["pos_embed"][:, 0], file["pos_embed"][:, 0])
    assert torch.equal(filled["blocks.0.attn.qkv.weight"], file["blocks.0.attn.qkv.weight"])
    assert "timm:test_vit were trained with INPUT.PIXEL_MEAN [0.5, 0.5, 0.5]" in caplog.text


def test_an_osnet_of_imagenet_trains_but_is_not_tested(tiny_arguments: list[str], tmp_path: Path) -> None:
    block = {"fc.0.weight": torch.ones(512, 128), "fc.1.weight": torch.ones(512)}
    base = backbone("osnet_x0_25").build().base.state_dict()
    torch.save({**base, **block, "classifier.weight": torch.ones(1000, 512)}, tmp_path / "imagenet.pth")
    path = ["MODEL.PRETRAIN_PATH", str(tmp_path / "imagenet.pth")]
    with pytest.raises(ReidError, match=r"test needs .* a trained model, got .*holds a backbone of .*ImageNet"):
        run.evaluate(parsed(*tiny_arguments, *path))
    weights = open_weights(parsed(*path))
    for head in ("bnneck", "projection"):
        given = parsed(*tiny_arguments, *path, "MODEL.HEAD", head)
        cfg = given.for_training(BASELINE, weights, resume=False)
        extractor = build_network(cfg)
        initialize(extractor, cfg, weights)
        assert torch.equal(extractor.backbone.base.conv1.conv.weight, base["conv1.conv.weight"])


def test_a_gem_of_negative_values_is_told(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("timm")
    size = {"INPUT.SIZE_TEST": [64, 32], "MODEL.POOLING": "gem"}
    for name in ("resnet18", "osnet_x0_25", "timm:resnet18"):
        build_network(with_values(get_cfg(), {"MODEL.NAME": name, **size}))
    assert caplog.text == ""
    build_network(with_values(get_cfg(), {"MODEL.NAME": "timm:convnext_atto", **size}))
    assert "MODEL.POOLING gem takes values below 0 for 0: " in caplog.text
    assert "of the map of timm:convnext_atto are such" in caplog.text
