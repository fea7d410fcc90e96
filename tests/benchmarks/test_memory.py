"""The memory that the backward pass needs, against what can be counted by hand."""

import pytest
from torch import Tensor, nn

from benchmarks.memory import saved_bytes


class Camera(nn.Module):
    """Layers behind the signature of a network."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor, _: Tensor | None) -> Tensor:
        return self.layers(images)


def test_saved_bytes_are_those_of_the_inputs_and_the_activations() -> None:
    pixels, maps = 5 * 3 * 8 * 4, 5 * 6 * 8 * 4  # values
    network = Camera(nn.Conv2d(3, 6, 3, padding=1), nn.Sigmoid(), nn.Conv2d(6, 2, 1))
    # the first layer keeps its images, the sigmoid its result, which the last layer keeps as well
    assert saved_bytes(network, (8, 4), 5, "32-true") == 4 * (pixels + maps)


@pytest.mark.parametrize("images", [2, 4])
def test_memory_grows_with_the_images_and_is_half_in_16_bits(images: int) -> None:
    network = Camera(nn.Linear(4, 4, bias=False))
    full = saved_bytes(network, (8, 4), images, "32-true")
    assert full == 4 * images * 3 * 8 * 4
    assert saved_bytes(network, (8, 4), images, "bf16-mixed") == full / 2
