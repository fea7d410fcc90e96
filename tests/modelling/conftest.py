"""A small network of our own whose weights the tests write in other projects' formats."""

from collections.abc import Callable

import pytest
import torch

from modelling.backbones import backbone
from modelling.heads import HEADS, POOLINGS, Features
from modelling.network import ReidNetwork
from modelling.weights.weights import Weights


class Network(ReidNetwork):
    """In evaluation mode; a head called "fresh" is a BNNeck that has seen nothing."""

    def __init__(self, name: str, head: str, pooling: str = "avg", dim: int = 0, **options: object) -> None:
        body = backbone(name).build(input_size=(64, 32), **options)
        super().__init__(body, HEADS["bnneck" if head == "fresh" else head](body, POOLINGS[pooling], dim))
        for name, value in self.state_dict().items():  # statistics that a file must bring along
            if value.is_floating_point() and value.ndim == 1 and not (head == "fresh" and "head" in name):
                value.copy_(torch.rand_like(value) + 0.2)
        self.eval()

    def forward(self, images: torch.Tensor, cameras: torch.Tensor | None = None) -> Features:
        with torch.inference_mode():
            return super().forward(images, cameras)


def twin(weights: Weights) -> Network:
    """The network that the file describes, not yet filled."""
    name = weights.architecture["name"]
    options = {option: weights.architecture.get(option) for option in backbone(name).options}
    head = weights.architecture["head"] if weights.has_head else "fresh"
    pooling, dim = weights.architecture.get("pooling", "avg"), weights.architecture.get("embedding_dim", 0)
    return Network(name, head, pooling, dim, **{key: value for key, value in options.items() if value is not None})


@pytest.fixture
def network() -> type[Network]:
    return Network


@pytest.fixture
def twin_of() -> Callable[[Weights], Network]:
    return twin


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, 64, 32, generator=torch.Generator().manual_seed(0))
