"""Means over the steps of an epoch."""

import pytest
import torch

from modelling.epoch_means import EpochMeans, on_host


def test_means_weigh_steps_by_their_images() -> None:
    means = EpochMeans()
    for loss, rate, images in ((1.0, 4.0, 2), (2.0, 6.0, 6)):
        means.add({"loss": torch.tensor(loss), "rate": torch.tensor(rate, dtype=torch.float64)}, images)
    assert {name: float(value) for name, value in means.values().items()} == pytest.approx(
        {"loss": 1.75, "rate": 5.5}
    )


def test_without_a_step_there_is_no_mean() -> None:
    assert EpochMeans().values() == {}


def test_figures_on_the_host_keep_their_names() -> None:
    values = {"loss": torch.tensor(1.5), "rate": torch.tensor(0.5, dtype=torch.float64)}
    assert {name: float(value) for name, value in on_host(values).items()} == {"loss": 1.5, "rate": 0.5}
