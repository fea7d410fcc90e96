"""What may lie in the folder of weights before, and what an export that fails leaves in it."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from engine.model import load_model
from engine.settings import Settings
from engine.weights import read_weights
from inference.exports.safetensors_format import write_weights
from tests.inference.exports.handing_on import FILES, hand_on
from utils.errors import ReidError


def test_options_and_folders_that_do_not_fit(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options in (("--unit",), ("--pixels",), ("--check", "photos"), ("--int8", "photos")):
        assert hand_on(checkpoint, tmp_path / "weights", *options) == 2
        assert f"{options[0]}; leave it out" in capsys.readouterr().err
        assert not (tmp_path / "weights").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yml").write_text("of a run")
    assert hand_on(checkpoint, tmp_path / "run") == 2
    assert "must be a folder for these weights alone" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.yml"]


def test_an_earlier_export_is_kept(checkpoint: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert hand_on(checkpoint, tmp_path / "weights") == 0
    assert sorted(path.name for path in (tmp_path / "weights/earlier_1").iterdir()) == FILES
    assert sorted(path.name for path in (tmp_path / "weights").iterdir()) == [
        *FILES[:1],
        "config.yml",
        "earlier_1",
        FILES[2],
    ]


@pytest.mark.parametrize("crash", range(1, 7))
def test_the_same_command_works_after_a_crash_between_two_files(
    crash: int, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export over an earlier one moves three files away and three in; it stops before one of them."""
    output, moves = tmp_path / "out", list[Path]()
    assert hand_on(checkpoint, output) == 0

    def move(path: Path, target: Path) -> Path:
        if target.parent in (output, output / "earlier_1"):
            moves.append(target)
            if len(moves) == crash:
                raise OSError(5, "the machine stops")
        os.replace(path, target)  # noqa: PTH105 (of Path it is what the test replaces)
        return target

    with monkeypatch.context() as patch:
        for method in ("rename", "replace"):
            patch.setattr(Path, method, move)
        assert hand_on(checkpoint, output) == 2
    assert len(moves) == crash
    assert hand_on(checkpoint, output) == 0
    assert [path.name for path in sorted(output.iterdir()) if path.is_file()] == FILES
    assert read_weights(output).origin
    copies = sorted(path.name for path in output.glob("earlier_*/*"))
    assert copies.count("model.safetensors") == (2 if crash > 4 else 1)


def test_an_export_that_differs_is_refused(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(Settings({}, {"MODEL.PRETRAIN_PATH": str(checkpoint)}))

    def damaged(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
        return save({name: tensor + 1 for name, tensor in tensors.items()}, metadata)

    monkeypatch.setattr("inference.exports.safetensors_format.save", damaged)
    with pytest.raises(ReidError, match="must be the model that was exported, but differs in backbone"):
        write_weights(replace(model), tmp_path)
