"""What a file tells about its images: settings of Lightning, tensors of fast-reid, or nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from datasets.preprocessing import Preprocessing
from modelling.backbones.resnet import ResNetBackbone
from modelling.network import ReidNetwork
from modelling.weights.foreign import recognize
from modelling.weights.weights import Weights


def ctl(donor: nn.Module, **more: object) -> Weights:
    """A file of centroids-reid."""
    state = {f"backbone.base.{name}": tensor for name, tensor in donor.backbone.base.state_dict().items()}
    state |= {**donor.head.state_dict(), "fc_query.weight": torch.ones(7, 4)}
    weights = recognize({"state_dict": state, **more}, Path("ctl.ckpt"))
    assert weights is not None
    return weights


@pytest.fixture(scope="module")
def donor() -> nn.Module:
    return ReidNetwork(ResNetBackbone("resnet18"))


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"INPUT": {"SIZE_TEST": [320, 320], "SIZE_TRAIN": [300, 100]}}, (320, 320)),
        ({"INPUT": {"SIZE_TRAIN": (384, 128)}}, (384, 128)),
        ({"INPUT.SIZE_TEST": [320, 320]}, (320, 320)),
        ({"INPUT.SIZE_TEST": "[320, 320]"}, None),
        ({"INPUT": {"SIZE_TEST": [320]}}, None),
        ({"INPUT": {"SIZE_TEST": [320, 0]}}, None),
        ({"INPUT": {"SIZE_TEST": [320, None]}}, None),
        ({"MODEL": {"NAME": "resnet50"}}, None),
        ({}, None),
        (None, None),
    ],
)
@pytest.mark.parametrize("place", ["hyper_parameters", "hparams"])
def test_the_size_is_that_of_the_settings(
    place: str, settings: object, size: tuple[int, int] | None, donor: nn.Module
) -> None:
    assert ctl(donor, **{place: settings}).preprocessing == Preprocessing(size or (256, 128))


def test_mean_and_deviation_come_from_the_settings(donor: nn.Module) -> None:
    settings = {"INPUT": {"PIXEL_MEAN": [0.5, 0.4, 0.3], "PIXEL_STD": [0.2, 0.3, 0.4]}}
    images = ctl(donor, hyper_parameters=settings).preprocessing
    assert images == Preprocessing((256, 128), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    settings["INPUT"]["PIXEL_STD"] = [0.2, 0.3, 0.0]  # which nothing can be divided by
    images = ctl(donor, hyper_parameters=settings).preprocessing
    assert images == Preprocessing((256, 128), (0.5, 0.4, 0.3))


def test_only_ibn_networks_without_settings_leave_the_size_open(network: Callable[..., nn.Module]) -> None:
    ibn, plain = network("resnet50_ibn_a", "bnneck"), network("resnet18", "bnneck")
    assert ctl(ibn).size_unsure
    assert ctl(ibn).preprocessing == Preprocessing((256, 128))
    sized = ctl(ibn, hyper_parameters={"INPUT": {"SIZE_TEST": [320, 320]}})
    assert not sized.size_unsure
    assert sized.preprocessing == Preprocessing((320, 320))
    assert not ctl(plain).size_unsure
