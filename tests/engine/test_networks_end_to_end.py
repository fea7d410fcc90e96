"""What the MODEL keys build: trained, saved and tested in-process, on a drawn data set."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from configs import get_cfg, with_values
from datasets.preprocessing import Preprocessing
from engine import run
from engine.builders.model import build_network
from engine.checkpoint import Checkpoint
from engine.cli import parse
from engine.methods import BASELINE
from engine.weights import initialize, open_weights, read_weights
from modelling.backbones import BACKBONES
from modelling.backbones.resnet import ResNetBackbone
from modelling.network import ReidNetwork
from modelling.weights.weights import Weights
from tests.support import fit
from utils.errors import ReidError

ONE_EPOCH = ("SOLVER.MAX_EPOCHS", "1")


def evaluate(path: Path, *more: str) -> run.Report:
    output = ("OUTPUT_DIR", str(path.parent / "output"), "DATALOADER.NUM_WORKERS", "0")
    given = ["MODEL.PRETRAIN_PATH", str(path), *output, *more]
    (report,) = run.evaluate(parse(given))
    return report


def checkpoint(path: Path) -> Checkpoint:
    weights = read_weights(path)
    assert isinstance(weights, Checkpoint)
    return weights


def without_network(arguments: list[str]) -> list[str]:
    """For files that tell it."""
    place = arguments.index("MODEL.NAME")
    return arguments[:place] + arguments[place + 2 :]


def network_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file of another project under the names of our network."""
    file = read_weights(path)
    assert isinstance(file, Weights)
    return dict(file.state)


def same_when_tested(result: run.FitResult) -> Checkpoint:
    path = result.folder / "0_last.pth"
    assert evaluate(path).entries[0].result.mAP == pytest.approx(result.last[0].result.mAP, abs=1e-6)
    return checkpoint(path)


def test_an_embedding_of_64_components_trains_and_tests(tiny_arguments: list[str]) -> None:
    saved = same_when_tested(fit(tiny_arguments, *ONE_EPOCH, "MODEL.EMBEDDING_DIM", "64"))
    assert saved.state["head.linear.weight"].shape[0] == 64
    assert saved.state["head.bn.weight"].shape == (64,)
    assert [tensor.shape for tensor in saved.objective.values()] == [(8, 64)] * 2  # classifier and centers
    with pytest.raises(ReidError, match=r"MODEL\.EMBEDDING_DIM is 64 in the file and 32 here"):
        evaluate(saved.path, "MODEL.EMBEDDING_DIM", "32")


def test_the_linear_layer_learns(tiny_arguments: list[str]) -> None:
    result = fit(tiny_arguments, "MODEL.EMBEDDING_DIM", "16", "SOLVER.BASE_LR", "0.01")
    first, last = (checkpoint(result.folder / name).state["head.linear.weight"] for name in ("0.pth", "1_last.pth"))
    assert float((first - last).abs().max()) > 1e-4


def test_osnets_projection_has_the_dimension_too(tiny_arguments: list[str]) -> None:
    head = ("MODEL.NAME", "osnet_x0_25", "MODEL.HEAD", "projection")
    saved = same_when_tested(fit(tiny_arguments, *ONE_EPOCH, *head, "MODEL.EMBEDDING_DIM", "32"))
    assert saved.state["head.linear.weight"].shape == (32, 128)
    cfg = with_values(get_cfg(), dict(zip(head[::2], head[1::2], strict=True)))
    assert build_network(cfg).dim == 512


def test_gem_learns_its_power_and_the_checkpoint_keeps_it(tiny_arguments: list[str]) -> None:
    saved = same_when_tested(fit(tiny_arguments, *ONE_EPOCH, "MODEL.POOLING", "gem", "SOLVER.BASE_LR", "0.01"))
    assert saved.config["MODEL.POOLING"] == "gem"
    power = saved.state["head.pool.p"]
    assert power.shape == (1,)
    assert float((power - 3).abs()) > 1e-4


def test_a_checkpoint_older_than_a_key_has_its_default(tiny_arguments: list[str], tmp_path: Path) -> None:
    content = torch.load(fit(tiny_arguments, *ONE_EPOCH).folder / "0_last.pth", weights_only=True)
    config = yaml.safe_load(content["reid"]["config"])
    del config["MODEL"]["EMBEDDING_DIM"]
    content["reid"]["config"] = yaml.safe_dump(config)
    torch.save(content, tmp_path / "old.pth")
    assert checkpoint(tmp_path / "old.pth").architecture["embedding_dim"] == 0
    assert evaluate(tmp_path / "old.pth").entries


def test_the_width_of_the_backbone_is_found_and_a_wrong_one_refused() -> None:
    def extractor(name: str, width: int) -> object:
        return build_network(with_values(get_cfg(), {"MODEL.NAME": name, "MODEL.BACKBONE_EMB_SIZE": width}))

    assert extractor("resnet18", 0).dim == extractor("resnet18", 512).dim == 512  # type: ignore[attr-defined]
    with pytest.raises(
        ReidError, match=r"MODEL\.BACKBONE_EMB_SIZE must be the width of resnet18, 512, got 2048; leave it out"
    ):
        extractor("resnet18", 2048)


def test_a_local_ibn_file_starts_a_training(
    tiny_arguments: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    donor = ResNetBackbone("resnet50_ibn_a").base.state_dict()
    torch.save({**donor, "fc.weight": torch.ones(1000, 2048)}, tmp_path / "ibn.pth")
    arguments = [*without_network(tiny_arguments), "MODEL.PRETRAIN_PATH", str(tmp_path / "ibn.pth")]
    settings = parse(arguments)
    weights = open_weights(settings)
    cfg = settings.for_training(BASELINE, weights, resume=False)
    assert cfg.MODEL.NAME == "resnet50_ibn_a"
    extractor = build_network(cfg)
    with caplog.at_level(logging.INFO):
        initialize(extractor, cfg, weights)
    filled = extractor.backbone.base.state_dict()
    assert [name for name, tensor in donor.items() if not torch.equal(tensor, filled[name])] == []
    assert "the head is fresh; left out: fc.weight" in caplog.text


def as_the_first_version(extractor: ReidNetwork) -> dict[str, object]:
    base, neck = (part.state_dict() for part in (extractor.backbone.base, extractor.head.bn))
    state = {f"backbone.base.{name}": tensor for name, tensor in base.items()}
    state |= {f"bn.{name}": tensor for name, tensor in neck.items()}
    return {"epoch": 3, "model_state_dict": {**state, "fc_query.weight": torch.ones(7, 512)}, "num_classes": 7}


def as_fast_reid(extractor: ReidNetwork) -> dict[str, object]:
    base, neck = (part.state_dict() for part in (extractor.backbone.base, extractor.head.bn))
    state = {f"backbone.{name}": tensor for name, tensor in base.items()}
    state |= {f"heads.bottleneck.0.{name}": tensor for name, tensor in neck.items()}
    pixels = {"pixel_mean": torch.full((1, 3, 1, 1), 51.0), "pixel_std": torch.full((1, 3, 1, 1), 102.0)}
    return {"model": {**state, **pixels, "heads.weight": torch.ones(7, 512)}, "iteration": 9}


@pytest.mark.parametrize(
    ("as_file", "expected"),
    [
        (as_the_first_version, {"MODEL.STEM_RELU": False, "INPUT.INTERPOLATION": "bilinear"}),
        (
            as_fast_reid,
            {
                "MODEL.STEM_POOL": "ceil",
                "INPUT.INTERPOLATION": "bicubic",
                "INPUT.PIXEL_MEAN": pytest.approx([0.2] * 3),
            },
        ),
    ],
)
def test_a_model_of_another_project_is_tested_and_tuned_as_it_was_trained(
    as_file: Callable[[ReidNetwork], dict[str, object]],
    expected: dict[str, object],
    tiny_arguments: list[str],
    tmp_path: Path,
) -> None:
    stem = {
        "stem_relu": expected.get("MODEL.STEM_RELU", True),
        "stem_pool": expected.get("MODEL.STEM_POOL", "padded"),
    }
    path = tmp_path / "theirs.pth"
    torch.save(as_file(ReidNetwork(ResNetBackbone("resnet18", **stem))), path)
    frozen = ("SOLVER.BASE_LR", "1e-12", "SOLVER.WEIGHT_DECAY", "0", "SOLVER.OPTIMIZER_NAME", "SGD")
    arguments = without_network(tiny_arguments)
    tuned = checkpoint(fit(arguments, *ONE_EPOCH, *frozen, "MODEL.PRETRAIN_PATH", str(path)).folder / "0_last.pth")
    assert {name: tuned.config[name] for name in expected} == expected
    assert (tuned.config["MODEL.NAME"], tuned.card.num_ids) == ("resnet18", 8)

    theirs = evaluate(path, *arguments).entries[0].result
    tuned.state.update(  # what the epoch changed beside the weights: running statistics
        {name: value for name, value in network_state(path).items() if "running" in name}
    )
    content = torch.load(tuned.path, weights_only=True)
    state = {
        f"extractor.{name}": tensor for name, tensor in tuned.state.items()
    }  # as our first checkpoints called it
    torch.save({**content, "state_dict": state}, tmp_path / "ours.pth")
    ours = evaluate(tmp_path / "ours.pth").entries[0].result
    assert ours.average_precision == pytest.approx(theirs.average_precision, abs=1e-6)


@pytest.mark.parametrize("name", ["osnet_x0_25", "timm:resnet18"])
@pytest.mark.parametrize(
    ("key", "value", "default"),
    [("STEM_RELU", False, "True"), ("STEM_POOL", "ceil", "padded"), ("LAST_STRIDE", 2, "1")],
)
def test_stem_and_stride_belong_to_resnets(name: str, key: str, value: object, default: str) -> None:
    if "timm" in name:
        pytest.importorskip("timm")
    message = rf"MODEL\.{key} belongs to resnet18, .*resnet101_ibn_a, got {value} for {name}; leave it at {default}"
    with pytest.raises(ReidError, match=message):
        build_network(with_values(get_cfg(), {"MODEL.NAME": name, f"MODEL.{key}": value}))
    resnet = build_network(with_values(get_cfg(), {"MODEL.NAME": "resnet18", f"MODEL.{key}": value}))
    assert isinstance(resnet.backbone, ResNetBackbone)


@pytest.mark.parametrize("size", ["[64, 32]", "[32, 64]"])
def test_a_vision_transformer_needs_one_size(size: str, tiny_arguments: list[str]) -> None:
    pytest.importorskip("timm")
    with pytest.raises(
        ReidError,
        match=r"INPUT\.SIZE_TRAIN and INPUT\.SIZE_TEST must be equal for timm:vit_tiny_patch16_224.*"
        r"got \[32, 16\] and \[(64, 32|32, 64)\]; set both to the size of the training",
    ):
        fit(
            tiny_arguments,
            *("MODEL.NAME", "timm:vit_tiny_patch16_224", "INPUT.SIZE_TEST", size, "DATASETS.NAMES", "nowhere"),
        )
    build_network(with_values(get_cfg(), {"MODEL.NAME": "timm:convnext_atto", "INPUT.SIZE_TEST": [384, 128]}))


def test_a_vision_transformer_trains_and_tests_at_256_by_128(tiny_arguments: list[str]) -> None:
    pytest.importorskip("timm")
    size = ("INPUT.SIZE_TRAIN", "[256, 128]", "INPUT.SIZE_TEST", "[256, 128]", "INPUT.PADDING", "10")
    saved = same_when_tested(fit(tiny_arguments, *ONE_EPOCH, "MODEL.NAME", "timm:test_vit", *size))
    assert saved.state["backbone.base.pos_embed"].shape == (1, 16 * 8 + 1, 64)
    with pytest.raises(ReidError, match=r"must be equal .*got \[256, 128\] and \[64, 32\].*size of the training"):
        evaluate(saved.path, "INPUT.SIZE_TEST", "[64, 32]")


def test_other_pixels_than_those_of_the_imagenet_weights_are_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    half = (0.5, 0.5, 0.5)
    record = BACKBONES["osnet_x0_25"]
    state = record.build().base.state_dict()
    images = Preprocessing(mean=half, std=half)
    monkeypatch.setitem(BACKBONES, "fast", replace(record, weights=lambda: state, preprocessing=images))
    pixels = {"INPUT.PIXEL_MEAN": list(half), "INPUT.PIXEL_STD": list(half)}
    for values, warned in ((pixels, False), ({}, True)):
        cfg = with_values(get_cfg(), {"MODEL.NAME": "fast", **values})
        network = build_network(cfg)
        initialize(network, cfg, None)
        assert torch.equal(network.backbone.base.conv1.conv.weight, state["conv1.conv.weight"])
        warning = "were trained with INPUT.PIXEL_MEAN [0.5, 0.5, 0.5] INPUT.PIXEL_STD [0.5, 0.5, 0.5]"
        assert (warning in caplog.text) == warned
