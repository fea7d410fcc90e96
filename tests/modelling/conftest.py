"""A small network of our own whose weights the tests write in other projects' formats."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from modelling.backbones.catalogue import build_backbone
from modelling.foreign import ForeignWeights
from modelling.heads import BNNeck, Features
from modelling.projection_head import ProjectionHead


class Network(nn.Module):
    """Backbone and head; a head called "fresh" is a BNNeck that has seen nothing."""

    def __init__(self, name: str, head: str, **options: object) -> None:
        super().__init__()
        self.backbone = build_backbone(name, input_size=(64, 32), **options)
        channels = self.backbone.out_channels
        self.head = ProjectionHead(channels) if head == "projection" else BNNeck(channels)
        for name, value in self.state_dict().items():  # statistics that a file must bring along
            if value.is_floating_point() and value.ndim == 1 and not (head == "fresh" and "head" in name):
                value.copy_(torch.rand_like(value) + 0.2)
        self.eval()

    def forward(self, images: torch.Tensor) -> Features:
        with torch.inference_mode():
            return self.head(self.backbone(images))


def twin(weights: ForeignWeights) -> Network:
    """The network that the file describes, not yet filled."""
    chosen = {"stem_relu": weights.stem_relu, "stem_pool": weights.stem_pool}
    options = {key: value for key, value in chosen.items() if value is not None}
    assert weights.backbone_name is not None
    head = weights.head if weights.has_head else "fresh"
    return Network(weights.backbone_name, head, last_stride=weights.last_stride or 1, **options)


@pytest.fixture
def network() -> type[Network]:
    return Network


@pytest.fixture
def twin_of() -> Callable[[ForeignWeights], Network]:
    return twin


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, 64, 32, generator=torch.Generator().manual_seed(0))
