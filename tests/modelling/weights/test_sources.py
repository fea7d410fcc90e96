import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from engine.model import load_model
from engine.settings import Settings
from engine.weights import read_weights
from modelling.backbones import backbone
from modelling.heads import ProjectionHead
from modelling.network import ReidNetwork
from modelling.weights.file import read_content
from modelling.weights.sources import find_weights
from utils.errors import ReidError

OSNET = {"architecture": "osnet_x0_25", "preprocessing": {"input_size": [128, 64], "interpolation": "bicubic"}}


def use_fake_hub(monkeypatch: pytest.MonkeyPatch, files: dict[str, Any] | None) -> None:
    """A hub of one repository; None = there is no network."""

    def list_repo_files(repository: str) -> list[str]:
        if files is None:
            raise OSError("offline")
        assert repository == "me/zoo"
        return list(files)

    def hf_hub_download(repository: str, file: str) -> str:
        assert repository == "me/zoo"
        if not files or file not in files:
            raise OSError("offline")
        return str(files[file])

    hub = SimpleNamespace(list_repo_files=list_repo_files, hf_hub_download=hf_hub_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)


def test_addresses_of_other_kinds_are_refused() -> None:
    with pytest.raises(ReidError, match=r"begins with hf://, got https://x\.y/z\.pth; download the file"):
        find_weights("https://x.y/z.pth")


def osnet() -> tuple[ReidNetwork, dict[str, torch.Tensor]]:
    body = backbone("osnet_x0_25").build()
    network = ReidNetwork(body, ProjectionHead(body.out_channels)).eval()
    names = {"linear.": "fc.0.", "bn.": "fc.1."}
    head = {
        new + name.removeprefix(old): tensor
        for name, tensor in network.head.state_dict().items()
        for old, new in names.items()
        if name.startswith(old)
    }
    return network, {**body.base.state_dict(), **head}


def folder(tmp_path: Path, state: dict[str, torch.Tensor], description: object) -> Path:
    save_file(state, tmp_path / "weights.safetensors")
    (tmp_path / "reid_config.json").write_text(json.dumps(description))
    return tmp_path


def test_a_file_of_safetensors_is_known_by_its_content(tmp_path: Path) -> None:
    network, state = osnet()
    save_file(state, tmp_path / "model.pth")
    model = load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(tmp_path / "model.pth")}))
    images = torch.rand(2, 3, 256, 128)
    with torch.inference_mode():
        assert torch.equal(model.network.embed(images), network.embed(images))


def test_a_truncated_file_of_safetensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ReidError, match=r"a.safetensors begins like a file of safetensors.*download it again"):
        read_content(path)


def test_a_folder_of_roboflow_has_its_images(tmp_path: Path) -> None:
    _, state = osnet()
    weights = read_weights(folder(tmp_path, state, OSNET))
    assert weights.preprocessing is not None
    assert (weights.preprocessing.size, weights.preprocessing.interpolation) == ((128, 64), "bicubic")
    assert weights.architecture["name"] == "osnet_x0_25"


def test_a_folder_of_roboflow_over_timm_is_a_trained_model(tmp_path: Path) -> None:
    name = "timm:resnet10t"
    network = ReidNetwork(backbone(name).build(input_size=(64, 32))).eval()
    description = {"architecture": name, "preprocessing": {"input_size": [64, 32]}}
    path = folder(tmp_path, network.backbone.base.state_dict(), description)
    model = load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(path)}))
    images = torch.rand(2, 3, 64, 32)
    with torch.inference_mode():
        assert torch.equal(model.network.embed(images), network(images).raw)


@pytest.mark.parametrize(
    ("description", "part"),
    [([], "must name an architecture"), ({"architecture": "osnet_x0_25", "preprocessing": {"mean": [1]}}, "mean")],
)
def test_an_odd_description_is_refused(tmp_path: Path, description: object, part: str) -> None:
    with pytest.raises(ReidError, match=part):
        read_weights(folder(tmp_path, osnet()[1], description))


def test_a_folder_of_weights_that_were_handed_on(tmp_path: Path) -> None:
    folder(tmp_path, osnet()[1], OSNET)
    (tmp_path / "weights.safetensors").rename(tmp_path / "model.safetensors")
    assert find_weights(str(tmp_path)).path == tmp_path / "model.safetensors"


def test_any_other_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReidError, match=r"must be a file, or a folder with model\.safetensors, or with reid_config"):
        find_weights(str(tmp_path))


@pytest.mark.parametrize("location", ["hf://me/zoo/nets/a.pth", "hf://me/zoo"])
def test_a_file_of_the_hub_is_opened(location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = "nets/a.pth"
    torch.save(osnet()[1], tmp_path / "a.pth")
    use_fake_hub(monkeypatch, {file: tmp_path / "a.pth", "README.md": tmp_path / "README.md"})
    assert read_weights(location).kind == "OSNet of torchreid"


def test_the_retries_of_the_hub_stay_out_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use_fake_hub(monkeypatch, {"a.pth": tmp_path / "a.pth"})
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "level", logging.WARNING)
    with caplog.at_level(logging.INFO):
        find_weights("hf://me/zoo/a.pth")
        logging.getLogger("huggingface_hub.utils").warning("Retrying in 8s")
    assert [record.name for record in caplog.records] == ["modelling.weights.sources"]


def test_a_described_repository_of_the_hub_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path, osnet()[1], OSNET)
    use_fake_hub(monkeypatch, {path.name: path for path in tmp_path.iterdir()})
    weights = read_weights("hf://me/zoo")
    assert weights.preprocessing is not None
    assert weights.preprocessing.size == (128, 64)


@pytest.mark.parametrize(
    ("location", "files", "part"),
    [
        ("hf://me", {}, r"must be hf://owner/repo or hf://owner/repo/file"),
        ("hf://me/zoo", {}, r"must have one weight file, but has 0 \(none\)"),
        ("hf://me/zoo", {"a.pth": None, "b.pt": None}, r"has 2 \(a.pth, b.pt\).*hf://me/zoo/FILE"),
        ("hf://me/zoo/a.pth", {}, r"not in the cache.*offline.*give its path"),
        ("hf://me/zoo", None, r"cannot be listed \(offline\).*hf://me/zoo/FILE"),
    ],
)
def test_what_the_hub_does_not_have_is_refused(
    location: str, files: dict[str, Any] | None, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_fake_hub(monkeypatch, files)
    with pytest.raises(ReidError, match=part):
        find_weights(location)
