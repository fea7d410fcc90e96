"""``python -m modelling.weights FILE`` says what a file is, and an error what it resembles."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from modelling.weights.__main__ import describe, main
from modelling.weights.resemblance import resemblance
from tests.modelling.weights.support import centroids_reid
from utils.command_line import exit_code

NAMES = {
    "missing_signature": ("backbone.base.layer4.0.conv1.weight", "fc_query.weight"),
    "another_first_name": (
        "tower.transformer.resblocks.0.ln_1.bias",
        "tower.odd",
        "bottleneck.bias",
        "bottleneck_proj.a",
    ),
}


def tensors(*names: str) -> dict[str, Tensor]:
    return dict.fromkeys(names, torch.ones(2))


def test_a_trained_model_is_described(network: type, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ctl.pth"
    torch.save({"state_dict": centroids_reid(network("resnet18", "bnneck", stem_relu=False))}, path)
    assert describe(str(path)) == {
        "file": str(path),
        "family": "checkpoint of centroids-reid",
        "network": "resnet18, last_stride 1, stem_relu False, stem_pool padded",
        "head": "bnneck, pooling avg",
        "input": "256 x 128 pixels, bilinear, mean 0.485 0.456 0.406, deviation 0.229 0.224 0.225",
        "retrieval": "512 components after the batch normalization",
        "identities": "7",
        "cameras": "none",
        "parameters": "11.2 M",
        "left out": "fc_query (1)",
    }
    main([str(path)])
    assert "family      checkpoint of centroids-reid\n" in capsys.readouterr().out


def test_a_backbone_alone_is_described(network: type, tmp_path: Path) -> None:
    path = tmp_path / "resnet18.pth"
    torch.save({**network("resnet18", "fresh").backbone.base.state_dict(), "fc.weight": torch.ones(1000, 512)}, path)
    rows = describe(str(path))
    assert (rows["network"], rows["left out"]) == ("resnet18", "fc (1)")
    assert "not trained on identities" in rows["use"]
    assert "retrieval" not in rows


def test_a_network_that_its_tensors_do_not_tell_is_described_by_name(network: type, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    path = tmp_path / "net.pth"
    torch.save(network("timm:convnext_atto", "fresh").backbone.base.state_dict(), path)
    assert describe(str(path), "timm:convnext_atto")["network"] == "timm:convnext_atto"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no weights", "not a file of torch.save"),
        (None, "must be an existing file"),
        (tensors("strange"), r"is neither (its first entries: strange)"),
        (tensors(*NAMES["missing_signature"]), "it resembles a checkpoint of centroids-reid most"),
    ],
)
def test_a_file_that_does_not_open_ends_with_one_line(
    content: object, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        torch.save(content, path)
    assert exit_code(lambda: main([str(path)])) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_half_known_file_names_its_family_and_what_it_lacks() -> None:
    assert resemblance({"state_dict": tensors(*NAMES["missing_signature"])}) == (
        "; it resembles a checkpoint of centroids-reid most, but no tensor's name begins with bn."
    )


def test_a_renamed_file_names_the_tensors_without_a_place() -> None:
    text = resemblance(tensors(*NAMES["another_first_name"]))
    assert "it resembles a checkpoint of CLIP-ReID most" in text
    assert "no tensor's name begins with image_encoder.transformer.resblocks." in text
    assert "of its 4 tensors these have no place there: tower.transformer.resblocks.0.ln_1.bias, tower.odd" in text


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, tensors("a", "b.c")])
def test_a_file_of_nothing_known_resembles_nothing(content: dict[str, object]) -> None:
    assert resemblance(content) == ""
