"""What a file tells about its images: settings of Lightning, tensors of fast-reid, or nothing."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from modelling.foreign import ForeignWeights, recognise
from modelling.preprocessing import Preprocessing, read_preprocessing, told_size


def ctl(donor: nn.Module, **more: object) -> ForeignWeights:
    """A file of centroids-reid."""
    base = {f"backbone.base.{name}": tensor for name, tensor in donor.backbone.base.state_dict().items()}
    weights = recognise({"state_dict": {**base, **donor.head.state_dict()}, **more})
    assert weights is not None
    return weights


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
def test_the_size_is_that_of_the_settings(place: str, settings: object, size: tuple[int, int] | None) -> None:
    assert told_size({place: settings}) == size
    assert read_preprocessing({place: settings}, {}, "bicubic") == Preprocessing(size or (256, 128), "bicubic")


def test_mean_and_deviation_come_from_settings_or_tensors() -> None:
    content = {"hyper_parameters": {"INPUT": {"PIXEL_MEAN": [0.5, 0.4, 0.3], "PIXEL_STD": [0.2, 0.3, 0.4]}}}
    told = read_preprocessing(content, {}, "bilinear")
    assert (told.mean, told.std, told.size) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), (256, 128))
    tensors = {"pixel_mean": torch.full((1, 3, 1, 1), 51.0), "pixel_std": torch.full((1, 3, 1, 1), 102.0)}
    assert read_preprocessing(content, tensors, "bilinear").mean == pytest.approx((0.2, 0.2, 0.2))
    assert read_preprocessing(content, tensors, "bilinear").std == pytest.approx((0.4, 0.4, 0.4))


def test_only_ibn_networks_without_settings_leave_the_size_open(network: Callable[..., nn.Module]) -> None:
    ibn, plain = network("resnet50_ibn_a", "bnneck"), network("resnet18", "bnneck")
    assert ctl(ibn).size_unsure
    assert ctl(ibn).preprocessing.size == (256, 128)
    told = ctl(ibn, hyper_parameters={"INPUT": {"SIZE_TEST": [320, 320]}})
    assert not told.size_unsure
    assert told.preprocessing.size == (320, 320)
    assert not ctl(plain).size_unsure
