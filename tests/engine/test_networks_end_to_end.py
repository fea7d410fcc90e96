"""What the MODEL keys build: trained, saved and tested in-process, on a drawn data set."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from configs import get_cfg, with_values
from datasets.preprocessing import Preprocessing
from engine.builders.model import build_network
from engine.checkpoint import Checkpoint
from engine.run import FitResult
from engine.weights import initialize, read_weights
from evaluation.results import Report
from modelling.backbones import BACKBONES
from modelling.backbones.resnet import ResNetBackbone
from modelling.network import ReidNetwork
from tests.engine import support
from tests.engine.support import ONE_EPOCH, checkpoint_at, without
from tests.support import fit
from utils.errors import ReidError


def evaluate(path: Path, *more: str) -> Report:
    output = ["OUTPUT_DIR", str(path.parent / "output"), "DATALOADER.NUM_WORKERS", "0"]
    return support.evaluate(["MODEL.PRETRAIN_PATH", str(path), *output], *more)


def check_by_test(result: FitResult) -> Checkpoint:
    """A test of the checkpoint gives the figures of its validation."""
    path = result.folder / "0_last.pth"
    assert evaluate(path).entries[0].result.mAP == pytest.approx(result.last[0].result.mAP, abs=1e-6)
    return checkpoint_at(path)


def test_an_embedding_of_64_components_trains_and_tests(tiny_arguments: list[str]) -> None:
    checkpoint = check_by_test(fit(tiny_arguments, *ONE_EPOCH, "MODEL.EMBEDDING_DIM", "64"))
    assert checkpoint.state["head.linear.weight"].shape[0] == 64
    assert checkpoint.state["head.bn.weight"].shape == (64,)
    assert [tensor.shape for tensor in checkpoint.objective.values()] == [(8, 64)] * 2  # classifier and centers
    with pytest.raises(ReidError, match=r"MODEL\.EMBEDDING_DIM is 64 in the file and 32 here"):
        evaluate(checkpoint.path, "MODEL.EMBEDDING_DIM", "32")


def test_the_linear_layer_learns(tiny_arguments: list[str]) -> None:
    result = fit(tiny_arguments, "MODEL.EMBEDDING_DIM", "16", "SOLVER.BASE_LR", "0.01")
    first, last = (
        checkpoint_at(result.folder / name).state["head.linear.weight"] for name in ("0.pth", "1_last.pth")
    )
    assert float((first - last).abs().max()) > 1e-4


def test_osnets_projection_has_the_dimension_too(tiny_arguments: list[str]) -> None:
    head = ("MODEL.NAME", "osnet_x0_25", "MODEL.HEAD", "projection")
    checkpoint = check_by_test(fit(tiny_arguments, *ONE_EPOCH, *head, "MODEL.EMBEDDING_DIM", "32"))
    assert checkpoint.state["head.linear.weight"].shape == (32, 128)
    cfg = with_values(get_cfg(), dict(zip(head[::2], head[1::2], strict=True)))
    assert build_network(cfg).dim == 512


def test_gem_learns_its_power_and_the_checkpoint_keeps_it(tiny_arguments: list[str]) -> None:
    checkpoint = check_by_test(fit(tiny_arguments, *ONE_EPOCH, "MODEL.POOLING", "gem", "SOLVER.BASE_LR", "0.01"))
    assert checkpoint.config["MODEL.POOLING"] == "gem"
    power = checkpoint.state["head.pool.p"]
    assert power.shape == (1,)
    assert float((power - 3).abs()) > 1e-4


def test_a_checkpoint_older_than_a_key_has_its_default(tiny_checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(tiny_checkpoint, weights_only=True)
    config = yaml.safe_load(content["reid"]["config"])
    del config["MODEL"]["EMBEDDING_DIM"]
    content["reid"]["config"] = yaml.safe_dump(config)
    torch.save(content, tmp_path / "old.pth")
    assert checkpoint_at(tmp_path / "old.pth").architecture["embedding_dim"] == 0
    assert evaluate(tmp_path / "old.pth").entries


def test_the_width_of_the_backbone_is_found_and_a_wrong_one_refused() -> None:
    def network(width: int) -> ReidNetwork:
        return build_network(with_values(get_cfg(), {"MODEL.NAME": "resnet18", "MODEL.BACKBONE_EMB_SIZE": width}))

    assert network(0).dim == network(512).dim == 512
    with pytest.raises(
        ReidError, match=r"MODEL\.BACKBONE_EMB_SIZE must be the width of resnet18, 512, got 2048; leave it out"
    ):
        network(2048)


def as_the_first_version(network: ReidNetwork) -> dict[str, object]:
    base, neck = (part.state_dict() for part in (network.backbone.base, network.head.bn))
    state = {f"backbone.base.{name}": tensor for name, tensor in base.items()}
    state |= {f"bn.{name}": tensor for name, tensor in neck.items()}
    return {"epoch": 3, "model_state_dict": {**state, "fc_query.weight": torch.ones(7, 512)}, "num_classes": 7}


@pytest.mark.parametrize(
    "values",
    [
        ("MODEL.HEAD", "mgn_norm", "MODEL.POOLING", "gem", "MODEL.EMBEDDING_DIM", "16"),
        ("MODEL.HEAD", "mgn_relu", "MODEL.POOLING", "gem_fixed", "MODEL.EMBEDDING_DIM", "16"),
        ("MODEL.HEAD", "reduction", "MODEL.EMBEDDING_DIM", "32"),
    ],
)
def test_heads_of_fast_reid_train_and_come_back_from_their_checkpoint(
    values: tuple[str, ...], tiny_arguments: list[str]
) -> None:
    size = ("INPUT.SIZE_TRAIN", "[48,16]", "INPUT.SIZE_TEST", "[48,16]")
    arguments = without(tiny_arguments, "INPUT.SIZE_TRAIN", "INPUT.SIZE_TEST")
    with pytest.raises(ReidError, match=r"INPUT\.SIZE_TRAIN must be as large as resnet18 needs it.* 3 stripes"):
        fit([*arguments, *size[:1], "[32,16]", *size[2:]], *ONE_EPOCH, "MODEL.NAME", "resnet18", "MODEL.HEAD", "mgn")
    checkpoint = check_by_test(fit(arguments, *size, *ONE_EPOCH, "MODEL.NAME", "resnet18", *values))
    assert checkpoint.architecture["head"] == values[1]


@pytest.mark.parametrize("name", ["resnet50_nl", "resnest50"])
def test_networks_of_fast_reid_train_and_come_back_from_their_checkpoint(
    name: str, tiny_arguments: list[str]
) -> None:
    if name.startswith("resnest"):
        pytest.importorskip("timm")
    check_by_test(fit(tiny_arguments, *ONE_EPOCH, "MODEL.NAME", name))


def as_fast_reid(network: ReidNetwork) -> dict[str, object]:
    base, neck = (part.state_dict() for part in (network.backbone.base, network.head.bn))
    state = {f"backbone.{name}": tensor for name, tensor in base.items()}
    state |= {f"heads.bottleneck.0.{name}": tensor for name, tensor in neck.items()}
    pixels = {"pixel_mean": torch.full((1, 3, 1, 1), 51.0), "pixel_std": torch.full((1, 3, 1, 1), 102.0)}
    return {"model": {**state, **pixels, "heads.weight": torch.ones(7, 512)}, "iteration": 9}


@pytest.mark.parametrize(
    ("as_file", "settings"),
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
    settings: dict[str, object],
    tiny_arguments: list[str],
    tmp_path: Path,
) -> None:
    stem = {
        "stem_relu": settings.get("MODEL.STEM_RELU", True),
        "stem_pool": settings.get("MODEL.STEM_POOL", "padded"),
    }
    path = tmp_path / "theirs.pth"
    torch.save(as_file(ReidNetwork(ResNetBackbone("resnet18", **stem))), path)
    frozen = ("SOLVER.BASE_LR", "1e-12", "SOLVER.WEIGHT_DECAY", "0", "SOLVER.OPTIMIZER_NAME", "SGD")
    arguments = without(tiny_arguments, "MODEL.NAME")  # the file tells it
    checkpoint = checkpoint_at(
        fit(arguments, *ONE_EPOCH, *frozen, "MODEL.PRETRAIN_PATH", str(path)).folder / "0_last.pth"
    )
    assert {name: checkpoint.config[name] for name in settings} == settings
    assert (checkpoint.config["MODEL.NAME"], checkpoint.card.num_ids) == ("resnet18", 8)

    theirs = evaluate(path, *arguments).entries[0].result
    # What the epoch changed beside the weights: running statistics.
    statistics = {name: tensor for name, tensor in read_weights(path).state.items() if "running" in name}
    state = {f"network.{name}": tensor for name, tensor in {**checkpoint.state, **statistics}.items()}
    torch.save({**torch.load(checkpoint.path, weights_only=True), "state_dict": state}, tmp_path / "ours.pth")
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
    message = rf"MODEL\.{key} belongs to resnet18, .*resnet101_ibn_a, .*got {value} for {name}; leave it at {default}"
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
    checkpoint = check_by_test(fit(tiny_arguments, *ONE_EPOCH, "MODEL.NAME", "timm:test_vit", *size))
    assert checkpoint.state["backbone.base.pos_embed"].shape == (1, 16 * 8 + 1, 64)
    with pytest.raises(ReidError, match=r"must be equal .*got \[256, 128\] and \[64, 32\].*size of the training"):
        evaluate(checkpoint.path, "INPUT.SIZE_TEST", "[64, 32]")


def test_other_pixels_than_those_of_the_imagenet_weights_are_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    half = (0.5, 0.5, 0.5)
    record = BACKBONES["osnet_x0_25"]
    state = record.build().base.state_dict()
    images = Preprocessing(mean=half, std=half)
    monkeypatch.setitem(BACKBONES, "fast", replace(record, weights=lambda: state, preprocessing=images))
    pixels = {"INPUT.PIXEL_MEAN": list(half), "INPUT.PIXEL_STD": list(half)}
    for values, warns in ((pixels, False), ({}, True)):
        cfg = with_values(get_cfg(), {"MODEL.NAME": "fast", **values})
        network = build_network(cfg)
        initialize(network, cfg, None)
        assert torch.equal(network.backbone.base.conv1.conv.weight, state["conv1.conv.weight"])
        warning = "were trained with INPUT.PIXEL_MEAN [0.5, 0.5, 0.5]"
        assert (warning in caplog.text) == warns
