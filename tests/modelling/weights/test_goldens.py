"""Files of other projects give the features that the projects' own code computes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.transforms import NetworkInput
from engine.model import load_model
from engine.settings import Settings
from modelling.backbones import backbone
from modelling.network import ReidNetwork
from modelling.weights.foreign import recognize
from tests.reference import golden_rule

GOLDENS = [
    "fastreid011_sbs_R50",
    "fastreid_agw_R50",
    "clipreid_rn50_baseline",
    "clipreid_vit",
    "fastreid_bot_R50_reduction",
    "solider_swin_tiny_384",
    "transreid_vit_base_s12_sie_jpm",
    "transreid_vit_base_s16",
    "fastreid_mgn_R50-ibn",
    "fastreid_sbs_R50",
    "luperson_mgn_R50",
]


@pytest.mark.parametrize("name", GOLDENS)
def test_a_file_gives_the_features_of_its_project(name: str, tmp_path: Path) -> None:
    spec, golden = golden_rule.specification(name), golden_rule.features(name)
    path = tmp_path / "weights.pth"
    torch.save(golden_rule.checkpoint(spec), path)
    model = load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(path)}))
    images, unit = model.preprocessing, spec["pixel_range"]
    assert images.size == tuple(spec["input_size"])
    assert images.mean == pytest.approx([value / unit for value in spec["mean"]], abs=1e-6)
    assert images.std == pytest.approx([value / unit for value in spec["std"]], abs=1e-6)
    assert images.interpolation == spec["interpolation"].split()[0]
    cameras = None if spec["camera_labels"] is None else torch.tensor(spec["camera_labels"])
    network_input = NetworkInput(images)
    with torch.inference_mode():
        for key, rounding in (("feature", ""), ("feature_blocks", "blocks")):
            pixels = golden_rule.images(spec, blocks=bool(rounding))
            _compare(model.network.embed(network_input(pixels), cameras), golden[key], spec["rounding"], rounding)


@pytest.mark.parametrize("name", ["luperson_moco_R50"])
def test_a_backbone_alone_gives_the_map_of_its_project(name: str) -> None:
    spec, golden = golden_rule.specification(name), golden_rule.features(name)
    weights = recognize(golden_rule.checkpoint(spec), Path(name))
    assert weights is not None
    network = ReidNetwork(backbone(weights.architecture["name"]).build(input_size=(256, 128), last_stride=2)).eval()
    weights.fill(network)
    mean, std = (torch.tensor(spec[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        for key, rounding in (("feature", ""), ("feature_blocks", "blocks")):
            pixels = golden_rule.images(spec, blocks=bool(rounding)).float() / 255
            _compare(network((pixels - mean) / std).raw, golden[key], spec["rounding"], rounding)


def _compare(ours: Tensor, golden: NDArray[Any], rounding: dict[str, float], prefix: str) -> None:
    vectors = ours.numpy()
    assert _error(vectors, golden) <= 10 * rounding[prefix or "plain"]
    centered = [rows - rows.mean(axis=0) for rows in (vectors, golden)]
    assert _error(*centered) <= 10 * rounding[f"{prefix}_centred".strip("_")]


def _error(ours: NDArray[Any], golden: NDArray[Any]) -> float:
    return float(np.abs(ours - golden).max() / np.sqrt((golden.astype(np.float64) ** 2).mean()))
