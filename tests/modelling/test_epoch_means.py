"""Means over the steps of an epoch."""

import pytest
import torch

from modelling.epoch_means import EpochMeans


def test_means_weigh_steps_by_their_images() -> None:
    means = EpochMeans()
    for loss, rate, images in ((1.0, 4.0, 2), (2.0, 6.0, 6)):
        means.add({"loss": torch.tensor(loss), "rate": torch.tensor(rate, dtype=torch.float64)}, images)
    assert {name: float(value) for name, value in means.values().items()} == pytest.approx(
        {"loss": 1.75, "rate": 5.5}
    )


def test_without_a_step_there_is_no_mean() -> None:
    assert EpochMeans().values() == {}
