"""Training of CLIP's tower from a file of CLIP-ReID; two blocks stand for twelve."""

from pathlib import Path

import pytest
import torch

from engine.model import load_model
from engine.settings import Settings
from modelling.backbones import backbone, clip_vit
from modelling.heads import BNNeck
from modelling.network import ReidNetwork
from tests.engine.support import ONE_EPOCH
from tests.modelling.weights.test_clip_reid import clip_reid
from tests.support import fit


def test_a_file_is_trained_on_and_comes_back(
    tiny_arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_vit, "_DEPTH", 2)
    body = backbone("clip_vit_base").build(input_size=(256, 128), cameras=2)
    donor, file = ReidNetwork(body, BNNeck(1280)), tmp_path / "ViT-B-16_60.pth"
    torch.save(clip_reid(donor, "clip_vit_base"), file)
    options = ["MODEL.NAME", "clip_vit_base", "MODEL.PRETRAIN_PATH", str(file), "SOLVER.BASE_LR", "1e-3"]
    folder = fit(tiny_arguments, *ONE_EPOCH, *options).folder  # 32 x 16 pixels: its positions are resized
    checkpoint = folder / "0_last.pth"
    model = load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(checkpoint)}))
    ours, state = model.network.state_dict(), torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(value, state[f"network.{name}"]) for name, value in ours.items())
    assert (model.network.num_cameras, model.preprocessing.mean) == (2, (0.5, 0.5, 0.5))
    before = donor.state_dict()
    unchanged = [name for name, value in ours.items() if name in before and torch.equal(value, before[name])]
    assert unchanged == ["head.bn.bias"]
    assert ours["backbone.base.positional_embedding"].shape == (1 + 2 * 1, 768)
