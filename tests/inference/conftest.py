"""A checkpoint and a folder of images, small enough for seconds."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from configs import to_yaml
from engine.builders.model import build_network
from engine.checkpoint import SECTION, RunCard, section
from engine.settings import Settings
from inference import create_embeddings
from tests.inference.searching import QUERIES, settings

NAMES = ("-1_c1s1_000001_00.jpg", "0000_c1s1_000002_00.jpg", "0000_c2s1_000003_00.jpg", "0007_c1s1_000004_00.jpg",
         "0007_c2s1_000005_00.jpg", "0009_c2s1_000006_00.jpg", "0012_c3s1_000007_00.jpg")  # fmt: skip


def _write_checkpoint(path: Path, seed: int = 0, values: Mapping[str, object] | None = None) -> Path:
    """A checkpoint of ours with random weights, as training writes it."""
    chosen = {"MODEL.NAME": "resnet18", "INPUT.SIZE_TEST": [32, 16], "DATALOADER.NUM_WORKERS": 0, **(values or {})}
    cfg = Settings({}, chosen).cfg
    torch.manual_seed(seed)
    network = build_network(cfg)
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    ours = section(RunCard(to_yaml(cfg), "tiny", 8, 1, "baseline"), 0, (1, 0), 1)
    torch.save({SECTION: ours, "state_dict": state}, path)
    return path


def _draw(path: Path, seed: int, height: int = 40, width: int = 20) -> Path:
    """An image of smooth noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (5, 3, 3), dtype=np.uint8)
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-18 with random weights for images of 32 x 16."""
    return _write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.pth")


def _write_export(folder: Path, checkpoint: Path, name: str = "onnx", **options: object) -> Path:
    """What inference/export.py writes, without its checks."""
    from engine.model import load_model
    from inference.exports import CARD, FORMATS, Export, ExportOptions
    from inference.exports.opened import card_text

    for library in FORMATS[name].libraries:
        pytest.importorskip(library)
    folder.mkdir(parents=True, exist_ok=True)
    model = load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(checkpoint)}))
    export = Export(model, ExportOptions(**options))  # type: ignore[arg-type]
    FORMATS[name].write(export, folder)
    (folder / CARD).write_text(card_text(export, folder, name))
    return folder / FORMATS[name].files[0]


@pytest.fixture
def write_export() -> Callable[..., Path]:
    """Export a checkpoint: folder, checkpoint, format, fields of ExportOptions."""
    return _write_export


@pytest.fixture(scope="session")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint as ONNX; read only."""
    return _write_export(tmp_path_factory.mktemp("exported"), checkpoint)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Seven images of a Market gallery: one junk, two distractors, three identities."""
    for seed, name in enumerate(NAMES):
        _draw(tmp_path / "images" / name, seed)
    return tmp_path / "images"


@pytest.fixture(scope="session")
def session_checkpoint() -> Callable[..., Path]:
    """As ``write_checkpoint``, for fixtures that several tests share."""
    return _write_checkpoint


@pytest.fixture
def write_checkpoint() -> Callable[..., Path]:
    """Write a checkpoint: path, seed of the weights, configuration values by key as a mapping."""
    return _write_checkpoint


@pytest.fixture
def draw() -> Callable[..., Path]:
    """Draw an image file: path, seed, height, width."""
    return _draw


@pytest.fixture
def queries(tmp_path: Path, draw: Callable[..., Path]) -> Path:
    """A folder of three queries and one that is junk."""
    for seed, name in enumerate(QUERIES):
        draw(tmp_path / "queries" / name, 50 + seed)
    draw(tmp_path / "queries" / "-1_c1s1_000009_00.jpg", 9)
    return tmp_path / "queries"


@pytest.fixture
def output(images: Path, checkpoint: Path, tmp_path: Path) -> Path:
    """The gallery of ``images``."""
    folder = tmp_path / "output"
    assert create_embeddings.main([*settings(images, checkpoint, folder), "--precision", "fp32"]) == 0
    return folder
