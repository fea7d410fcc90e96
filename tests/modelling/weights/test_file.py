import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn
from yacs.config import CfgNode

from modelling.backbones.resnet import ResNetBackbone
from modelling.weights.file import check_fit, read_content
from modelling.weights.foreign import recognize
from utils.errors import ReidError


class AttributeDict(dict):
    """As Lightning 1.1 had it, under its place there."""

    def __setattr__(self, key: str, value: object) -> None:
        self[key] = value


class Stranger:
    ran = False

    def __setstate__(self, state: object) -> None:
        Stranger.ran = True


def centroids_reid_file(path: Path, monkeypatch: pytest.MonkeyPatch, **more: object) -> dict[str, torch.Tensor]:
    """What Lightning 1.1 writes: hyper parameters as its own dict of yacs nodes, callbacks by their class."""
    module = pytorch_lightning.utilities.parsing
    monkeypatch.setattr(AttributeDict, "__module__", module.__name__)
    monkeypatch.setattr(module, "AttributeDict", AttributeDict)
    base = ResNetBackbone("resnet18").base.state_dict()
    state = {f"backbone.base.{name}": tensor for name, tensor in base.items()}
    state |= nn.Sequential(nn.BatchNorm1d(512)).state_dict(prefix="b").items()  # b0.weight, ...
    state = {name.replace("b0.", "bn."): tensor for name, tensor in state.items()}
    content = {
        "epoch": 119,
        "pytorch-lightning_version": "1.1.4",
        "state_dict": {**state, "fc_query.weight": torch.ones(7, 512), "center_loss.centers": torch.ones(7, 512)},
        "callbacks": {ModelCheckpoint: {"best_model_score": torch.tensor(0.9), "best_model_path": "a.ckpt"}},
        "hparams_type": AttributeDict,
        "hyper_parameters": AttributeDict(
            MODEL=CfgNode({"NAME": "resnet50"}), INPUT=CfgNode({"SIZE_TEST": [320, 320]}), num_classes=7
        ),
        **more,
    }
    torch.save(content, path)
    return content["state_dict"]


def test_a_checkpoint_of_centroids_reid_opens_with_its_bookkeeping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = centroids_reid_file(tmp_path / "ctl.ckpt", monkeypatch)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "ctl.ckpt", weights_only=True)
    before = set(torch.serialization.get_safe_globals())
    content = read_content(tmp_path / "ctl.ckpt")
    assert set(torch.serialization.get_safe_globals()) == before
    assert content["state_dict"].keys() == state.keys()
    assert not isinstance(content["hyper_parameters"]["MODEL"], CfgNode)
    weights = recognize(content, tmp_path / "ctl.ckpt")
    assert weights is not None
    assert (weights.kind, weights.num_ids) == ("checkpoint of centroids-reid", 7)
    assert weights.architecture["name"] == "resnet18"
    assert weights.preprocessing is not None
    assert weights.preprocessing.size == (320, 320)


def test_any_other_object_is_refused_by_its_name_and_never_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = Stranger()
    stranger.state = 1
    monkeypatch.setattr(Stranger, "__module__", "torch")
    monkeypatch.setattr(torch, "Stranger", Stranger, raising=False)
    centroids_reid_file(tmp_path / "odd.ckpt", monkeypatch, stranger=stranger)
    with pytest.raises(
        ReidError,
        match=r"odd\.ckpt cannot be loaded as plain tensors .*holds an object of torch\.Stranger.*if you trust the "
        r"file, take its tensors out once: docs/model_zoo\.md",
    ):
        read_content(tmp_path / "odd.ckpt")
    assert not Stranger.ran


def test_a_whole_model_is_refused_by_its_class(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(ReidError, match=r"holds an object of torch\.nn\.modules\.linear\.Linear"):
        read_content(tmp_path / "model.pth")


@pytest.mark.parametrize("core", ["core", "_core"])
def test_numbers_of_numpy_are_read(tmp_path: Path, core: str) -> None:
    """As torchreid writes them, with NumPy 1 and 2; another dtype than the name says changes nothing."""
    numbers = {"rank1": np.float64(0.5), "best": np.float32(2), "epoch": np.int64(3), "kind": np.dtype("f8")}
    file = tmp_path / "a.pth"
    torch.save({"a": torch.ones(2), **numbers}, file, _use_new_zipfile_serialization=False)
    content = file.read_bytes()
    assert b"cnumpy._core.multiarray\nscalar\n" in content
    file.write_bytes(content.replace(b"cnumpy._core.", f"cnumpy.{core}.".encode()))
    read = read_content(file)
    assert torch.equal(read["a"], torch.ones(2))
    assert not any(isinstance(read[name], (np.generic, np.dtype)) for name in numbers)


def test_arrays_of_numpy_are_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "array": np.ones(2)}, tmp_path / "array.pth")
    with pytest.raises(ReidError, match=r"holds an object of numpy\S*multiarray\._reconstruct"):
        read_content(tmp_path / "array.pth")


def test_the_nearest_file_is_proposed(tmp_path: Path) -> None:
    """The README of the first version has `base` for `baseline`."""
    file = tmp_path / "logs/people/resnet50/baseline/exp0/best.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    with pytest.raises(ReidError, match=rf"got \S+/base/exp0/best\.pth; did you mean {re.escape(str(file))}\?$"):
        read_content(tmp_path / "logs/people/resnet50/base/exp0/best.pth")
    with pytest.raises(ReidError, match=r"got \S+/0\.pth; its folder has best\.pth$"):
        read_content(file.with_name("0.pth"))


def test_what_is_no_weight_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ReidError, match=r"MODEL\.PRETRAIN_PATH must be an existing file, got gone\.pth"):
        read_content(Path("gone.pth"))
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(ReidError, match=r"list\.pth must hold a mapping of tensors, got list"):
        read_content(tmp_path / "list.pth")


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xd8\xff\xe0" + bytes(99), pickle.dumps({"a": [1, 2]})])
def test_an_empty_file_and_one_of_another_kind_are_told_apart(
    tmp_path: Path, content: bytes, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "some.pth").write_bytes(content)
    kind = f"not a file of torch.save or safetensors (it begins with {content[:4]!r})" if content else "empty"
    reason = re.escape(f"(weights_only=True): it is {kind}; copy or download it again")
    with pytest.raises(ReidError, match=rf"some\.pth cannot be .* {reason}$"):
        read_content(tmp_path / "some.pth")
    assert not recwarn.list


def test_an_archive_of_arrays_is_not_called_damaged(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", weight=np.ones(3))
    with pytest.raises(ReidError, match=r"it is a zip archive, but none of torch\.save; give a file"):
        read_content(tmp_path / "a.npz")


def test_whole_numbers_are_no_weights() -> None:
    target = {"a.weight": torch.ones(2), "a.num_batches_tracked": torch.tensor(0)}
    with pytest.raises(ReidError, match=r"x\.pth does not fit .*: a\.weight has int8 instead of fractions$"):
        check_fit(target, {**target, "a.weight": torch.ones(2, dtype=torch.int8)}, frozenset(), "x.pth")
    check_fit(target, {**target, "a.weight": torch.ones(2).half()}, frozenset(), "x.pth")


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_torchscript_archive_is_called_so(tmp_path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "scripted.pth")
    with pytest.raises(ReidError, match=r"scripted\.pth .*it is a TorchScript archive; write the state_dict\(\)"):
        read_content(tmp_path / "scripted.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_truncated_file_is_called_so(tmp_path: Path, zipped: bool, share: float) -> None:
    file = tmp_path / "cut.pth"
    torch.save({"a": torch.randn(1000, 10)}, file, _use_new_zipfile_serialization=zipped)
    assert read_content(file)["a"].shape == (1000, 10)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(ReidError, match=r"cut\.pth .*truncated or damaged; copy or download it again$"):
        read_content(file)


def test_the_documented_remedy_makes_a_file_that_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/model_zoo.md").read_text(encoding="utf-8")
    (code,) = page.split("```python\n")[1:]
    monkeypatch.chdir(tmp_path)
    state = centroids_reid_file(tmp_path / "epoch=119.ckpt", monkeypatch, stranger=Path("anything"))
    with pytest.raises(ReidError, match="holds an object of pathlib"):
        read_content(tmp_path / "epoch=119.ckpt")
    exec(code.partition("```")[0], {})
    (file,) = tmp_path.glob("*.pth")
    assert read_content(file)["state_dict"].keys() == state.keys()
